"""Adversarial losses against their formulas."""

import math

import pytest
import torch
import torch.nn.functional as F

from ddpm_pairs.training.losses.competition import (
    Hinge,
    LeastSquares,
    Logistic,
    RelativisticAverage,
    Wasserstein,
    gradient_penalty,
)

REAL = torch.tensor([[1.5, -0.5], [0.2, 2.0]])
MADE = torch.tensor([[-1.0, 0.7], [0.1, -2.0]])


def bce(logits, label):
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label)).item()


def test_logistic():
    assert Logistic().discriminator(REAL, MADE).item() == pytest.approx(bce(REAL, 1.0) + bce(MADE, 0.0))
    assert Logistic().generator(MADE).item() == pytest.approx(bce(MADE, 1.0))


def test_least_squares():
    expected = (REAL - 1).square().mean() + MADE.square().mean()
    assert LeastSquares().discriminator(REAL, MADE).item() == pytest.approx(expected.item())
    assert LeastSquares().generator(MADE).item() == pytest.approx((MADE - 1).square().mean().item())


def test_hinge():
    real, made = (-0.5, 1.5, 0.8, -1.0), (0.0, 1.7, 1.1, -1.0)  # 1 - real and 1 + made
    expected = sum(max(0, one) for one in real) / 4 + sum(max(0, one) for one in made) / 4
    assert Hinge().discriminator(REAL, MADE).item() == pytest.approx(expected)
    assert Hinge().generator(MADE).item() == pytest.approx(-MADE.mean().item())


def test_relativistic_average():
    real, made = REAL - MADE.mean(), MADE - REAL.mean()
    loss = RelativisticAverage()
    assert loss.discriminator(REAL, MADE).item() == pytest.approx(bce(real, 1.0) + bce(made, 0.0), rel=1e-5)
    assert loss.generator(MADE, REAL).item() == pytest.approx((bce(real, 0.0) + bce(made, 1.0)) / 2, rel=1e-5)


def test_wasserstein():
    assert Wasserstein().discriminator(REAL, MADE).item() == pytest.approx((MADE.mean() - REAL.mean()).item())
    assert Wasserstein().generator(MADE).item() == pytest.approx(-MADE.mean().item())


@pytest.mark.parametrize("loss", [Logistic(), LeastSquares(), Hinge(), RelativisticAverage(), Wasserstein()])
def test_a_discriminator_that_guesses(loss):
    guess = torch.full((3, 1, 2, 2), 0.5 if isinstance(loss, LeastSquares) else 0.0)
    assert loss.discriminator(guess, guess).item() == pytest.approx(loss.undecided)


@pytest.mark.parametrize("loss", [Logistic(), LeastSquares(), Hinge(), RelativisticAverage(), Wasserstein()])
def test_bfloat16_logits_give_float32_losses(loss):
    for result in (loss.discriminator(REAL.bfloat16(), MADE.bfloat16()), loss.generator(MADE.bfloat16(), REAL)):
        assert result.dtype == torch.float32


def test_gradient_penalty_of_a_linear_discriminator():
    images = torch.rand(2, 3, 4, 4, requires_grad=True)
    slope = torch.rand(3, 4, 4)
    logits = (images * slope).sum((1, 2, 3))
    expected = (math.sqrt(slope.square().sum().item()) - 1) ** 2
    assert gradient_penalty(logits[:, None, None, None], images).item() == pytest.approx(expected, rel=1e-5)


def test_gradient_penalty_of_patches_is_that_of_their_mean():
    images = torch.rand(1, 1, 2, 2, requires_grad=True)
    assert gradient_penalty(8 * images, images).item() == pytest.approx((4 - 1) ** 2)
