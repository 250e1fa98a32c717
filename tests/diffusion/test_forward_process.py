"""Noising and reading the clean picture back, against diffusers and identities."""

import pytest
import torch
from diffusers import DDPMScheduler

from ddpm_pairs.diffusion.denoiser import check_prediction_type, predict_clean
from ddpm_pairs.diffusion.schedule import Schedule, add_noise, noise_like, training_target

SCHEDULE = Schedule("cosine", 1000)
INDEX = torch.tensor([0, 37, 500, 998])


@pytest.fixture
def draws():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(4, 3, 5, 7, generator=generator) * 2 - 1, torch.randn(4, 3, 5, 7, generator=generator)


@pytest.fixture
def reference():
    return DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")


def test_add_noise_is_that_of_diffusers(draws, reference):
    x_0, noise = draws
    torch.testing.assert_close(
        add_noise(x_0, noise, INDEX, SCHEDULE.alpha_bars), reference.add_noise(x_0, noise, INDEX), atol=2e-5, rtol=0
    )


def test_v_is_that_of_diffusers_and_epsilon_the_noise(draws, reference):
    x_0, noise = draws
    v = training_target(x_0, noise, INDEX, SCHEDULE.alpha_bars, "v_prediction")
    torch.testing.assert_close(v, reference.get_velocity(x_0, noise, INDEX), atol=2e-5, rtol=0)
    assert training_target(x_0, noise, INDEX, SCHEDULE.alpha_bars, "epsilon") is noise


def test_v_is_a_rotation(draws):
    # With signal = cos(phi) and noise amplitude = sin(phi), (x_t, v) is (x_0, noise) turned by phi.
    x_0, noise = (value.double() for value in draws)
    x_t = add_noise(x_0, noise, INDEX, SCHEDULE.alpha_bars)
    v = training_target(x_0, noise, INDEX, SCHEDULE.alpha_bars, "v_prediction")
    torch.testing.assert_close(x_t.square() + v.square(), x_0.square() + noise.square())
    phi = torch.acos(SCHEDULE.alpha_bars[INDEX].sqrt()).view(-1, 1, 1, 1)
    torch.testing.assert_close(phi.sin() * x_t + phi.cos() * v, noise)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_a_perfect_network_gives_the_clean_picture(draws, prediction_type):
    x_0, noise = draws
    index = torch.tensor([0, 37, 300, 600])
    x_t = add_noise(x_0, noise, index, SCHEDULE.alpha_bars)
    output = training_target(x_0, noise, index, SCHEDULE.alpha_bars, prediction_type)
    clean = predict_clean(x_t, output, index, SCHEDULE.alpha_bars, prediction_type)
    torch.testing.assert_close(clean, x_0, atol=1e-5, rtol=0)


def test_clean_prediction_is_clamped_and_float32():
    x_t = torch.tensor([3.0, -3.0, 0.5]).view(3, 1, 1, 1).expand(3, 3, 2, 2).to(torch.bfloat16)
    index = torch.tensor([0, 0, 0])
    clean = predict_clean(x_t, torch.zeros_like(x_t), index, SCHEDULE.alpha_bars, "epsilon")
    assert clean.dtype == torch.float32
    assert clean[0].eq(1).all()
    assert clean[1].eq(-1).all()
    torch.testing.assert_close(clean[2], torch.full((3, 2, 2), 0.5), atol=1e-4, rtol=0)


def test_noise_comes_from_each_pictures_own_generator():
    noise = noise_like([torch.Generator().manual_seed(seed) for seed in (3, 4)], (3, 4, 5))
    for row, seed in enumerate((3, 4)):
        assert torch.equal(noise[row], torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(seed)))


def test_unknown_prediction_type():
    with pytest.raises(ValueError, match="'x_0'.*epsilon or v_prediction or sample"):
        check_prediction_type("x_0")
