"""The adversarial loss and its regularisations against formulas by hand and finite differences."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ddpm_pairs.restoration.networks.gpen import StyleDecoder, StyleDiscriminator
from ddpm_pairs.training.losses.adversarial import (
    discriminator_loss,
    generator_loss,
    path_length_penalty,
    path_lengths,
    r1_penalty,
)


def draws(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class TestLosses:
    def test_are_binary_cross_entropy_with_labels(self):
        real, made = draws(2, 1, 5, 5), draws(2, 1, 5, 5, seed=1)
        ones, zeros = torch.ones_like(real), torch.zeros_like(real)
        bce = F.binary_cross_entropy_with_logits
        assert generator_loss(made).item() == pytest.approx(bce(made, ones).item(), rel=1e-6)
        expected = bce(real, ones) + bce(made, zeros)
        assert discriminator_loss(real, made).item() == pytest.approx(expected.item(), rel=1e-6)

    def test_values_by_hand(self):
        real, made = torch.tensor([0.0, 2.0]), torch.tensor([-1.0])
        expected = (math.log(2) + math.log(1 + math.exp(-2))) / 2 + math.log(1 + math.exp(-1))
        assert discriminator_loss(real, made).item() == pytest.approx(expected)
        assert generator_loss(made).item() == pytest.approx(math.log(1 + math.e))

    def test_gradients_are_sigmoids(self):
        made = draws(4).requires_grad_()
        generator_loss(made).backward()
        expected = [-1 / (1 + math.exp(value)) / 4 for value in made.tolist()]
        assert made.grad.tolist() == pytest.approx(expected, rel=1e-5)

    def test_large_logits(self):
        assert generator_loss(torch.tensor([-1e4])).item() == 1e4
        assert discriminator_loss(torch.tensor([-1e4]), torch.tensor([-1e4])).item() == 1e4

    def test_bfloat16_logits_are_summed_in_float32(self):
        assert generator_loss(torch.zeros(3, dtype=torch.bfloat16)).dtype == torch.float32


def exact(module):
    """In float64, moved from its start, where the noise plays no part."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return module.double()


def differences(function, parameter, places, step=1e-6):
    """Central differences of a number by some entries of a parameter."""
    found = []
    flat = parameter.data.view(-1)
    for place in places:
        kept = flat[place].item()
        flat[place] = kept + step
        above = function().item()
        flat[place] = kept - step
        below = function().item()
        flat[place] = kept
        found.append((above - below) / (2 * step))
    return found


class TestR1:
    def test_of_a_quadratic_judge_by_hand(self):
        """D(x) = |x|^2 has the gradient 2 x; on [-1, 1], where pictures are twice as far apart, half of it."""
        pictures = draws(3, 3, 4, 4).requires_grad_()
        logits = pictures.square().sum(dim=(1, 2, 3))
        expected = sum((one**2).sum().item() for one in pictures.detach()) / 3
        assert r1_penalty(logits, pictures).item() == pytest.approx(expected)

    def test_is_the_gradient_on_the_symmetric_range(self):
        judge = exact(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(16, 1)))
        pictures = torch.rand(2, 3, 4, 4, dtype=torch.float64).requires_grad_()
        wide = (pictures.detach() * 2 - 1).requires_grad_()
        (gradient,) = torch.autograd.grad(judge((wide + 1) / 2).sum(), wide)
        expected = gradient.square().sum(dim=(1, 2, 3)).mean()
        assert r1_penalty(judge(pictures), pictures).item() == pytest.approx(expected.item())

    @pytest.mark.parametrize("compare", [True, False])
    def test_gradient_against_finite_differences(self, compare):
        judge = exact(StyleDiscriminator(16, 1, 1 / 64, compare_batch=compare))
        pictures = torch.rand(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

        def penalty():
            real = pictures.clone().requires_grad_()
            return r1_penalty(judge(real), real)

        penalty().backward()
        for name in ("convs.0.0.weight", "convs.1.conv1.0.weight", "final_conv.0.weight", "final_linear.1.weight"):
            parameter = judge.get_parameter(name)
            places = range(0, parameter.numel(), max(1, parameter.numel() // 3))
            expected = differences(penalty, parameter, places)
            found = [parameter.grad.view(-1)[place].item() for place in places]
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-7), name


class TestPathLength:
    def test_of_a_linear_generator_by_hand(self):
        """Pictures A w have the Jacobian A, so the length is |A^T y|."""
        n, places, width, shape = 2, 3, 4, (3, 2, 2)
        matrix = draws(places, width, 12)
        latents = draws(n, places, width, seed=1).requires_grad_()
        pictures = torch.einsum("npc,pcd->nd", latents, matrix).view(n, *shape)
        noise = draws(n, *shape, seed=2)
        found = path_lengths(pictures, latents, noise)
        for row in range(n):
            y = noise[row].flatten() / 2  # sqrt(2 * 2)
            squares = [((matrix[place] @ y) ** 2).sum().item() for place in range(places)]
            assert found[row].item() == pytest.approx(math.sqrt(sum(squares) / places))

    def test_penalty_by_hand(self):
        found = path_length_penalty(torch.tensor([1.0, 4.0]), torch.tensor(2.0))
        assert found.item() == pytest.approx((1 + 4) / 2)

    def test_gradient_against_finite_differences(self):
        decoder = exact(StyleDecoder(16, 1, 1 / 64))
        z = draws(2, 512)
        noise = [draws(2, *shape, seed=3) for shape in decoder.noise_shapes]
        y = draws(2, 3, 16, 16, seed=4)

        def penalty():
            latents = decoder.copies(decoder.style(z))
            return path_length_penalty(path_lengths(decoder.decode(latents, noise), latents, y), torch.tensor(0.3))

        penalty().backward()
        for name in ("conv1.conv.weight", "convs.2.conv.modulation.weight", "to_rgb1.conv.weight", "style.8.weight"):
            parameter = decoder.get_parameter(name)
            places = range(0, parameter.numel(), max(1, parameter.numel() // 3))
            expected = differences(penalty, parameter, places)
            found = [parameter.grad.view(-1)[place].item() for place in places]
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-7), name
