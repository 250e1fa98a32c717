"""White Gaussian noise with a level drawn per image."""

import pytest
import torch

from ddpm_pairs.degradations import GaussianNoise, by_name, degrade
from ddpm_pairs.errors import UserError


def drawn(model, count):
    return [model.draw(torch.Generator().manual_seed(number)) for number in range(count)]


def test_by_name_at_scale_1():
    model = by_name("gaussian_noise")
    assert isinstance(model, GaussianNoise) and model.scale == 1
    with pytest.raises(UserError, match="expected 1, the scale of degradation gaussian_noise"):
        by_name("gaussian_noise", 4)


def test_levels_are_uniform_and_each_image_has_noise_of_its_own():
    found = drawn(GaussianNoise(), 2000)
    levels = torch.tensor([one["noise"]["level"] for one in found])
    assert levels.min() >= 0 and levels.max() <= 75
    assert levels.mean().item() == pytest.approx(37.5, abs=1.5)
    assert levels.std().item() == pytest.approx(75 / 12**0.5, abs=1)
    assert len({one["noise"]["noise_seed"] for one in found}) == 2000


def test_the_noise_has_the_drawn_level_and_rows_are_independent():
    model = GaussianNoise((20.0, 20.0))
    hq, parameters = torch.full((2, 3, 128, 128), 0.5), drawn(model, 2)
    lq = model.apply(hq, parameters)
    residual = (lq - hq) * 255
    assert residual.std().item() == pytest.approx(20, rel=0.02)
    assert torch.corrcoef(residual.transpose(0, 1).flatten(1))[0, 1].abs() < 0.03  # of two channels
    assert torch.equal(model.apply(hq[1:], parameters[1:]), lq[1:])
    assert torch.equal((lq * 255).round() / 255, lq)


def test_remade_from_seed_and_key(photos):
    hq = torch.from_numpy(photos[0].copy()).permute(2, 0, 1)[None].float() / 255
    again = [degrade(by_name("gaussian_noise"), hq, 5, ["a"]) for _ in range(2)]
    assert torch.equal(*again)
    assert not torch.equal(degrade(by_name("gaussian_noise"), hq, 5, ["b"]), again[0])
    assert again[0].min() >= 0 and again[0].max() <= 1


def test_ranges_that_are_none():
    with pytest.raises(UserError, match=r"sigma: got \[5, 1\]; expected two numbers from 0 to 255"):
        GaussianNoise((5, 1))
