"""Parameters that another program wrote: lists that no draw gives are refused before they cost time."""

import copy

import pytest
import torch

from ddpm_pairs.degradations import BSRGAN, RealESRGAN

HQ = torch.full((1, 3, 64, 64), 0.5)


def drawn(degradation):
    """Parameters; those of BSRGAN have correlated noise."""
    every = (degradation.draw(torch.Generator().manual_seed(seed)) for seed in range(1000))
    return next(one for one in every if "operations" not in one or "covariance" in str(one))


@pytest.mark.parametrize("step", ["blur", "down", "resize", "noise", "jpeg"])
def test_bsrgan_takes_no_step_more_often_than_it_draws_it(step):
    parameters = drawn(BSRGAN())
    BSRGAN().apply(HQ, [parameters])
    one = next((one for one in parameters["operations"] if one["operation"] == step), {"operation": step, "quality": 9})
    for times in (2, 20_000):
        more = parameters | {"operations": parameters["operations"] + [one] * times}
        with pytest.raises(ValueError, match="operations: expected no more than blur, blur, down"):
            BSRGAN().apply(HQ, [more])


def test_bsrgan_takes_covariances_of_three_channels_only():
    parameters = copy.deepcopy(drawn(BSRGAN()))
    (noise,) = (one["noise"] for one in parameters["operations"] if one["operation"] == "noise")
    noise["covariance"] += [[0.0] * 3] * 20_000
    with pytest.raises(ValueError, match="covariance: expected 3x3 numbers"):
        BSRGAN().apply(HQ, [parameters])


@pytest.mark.parametrize("stages", [1, 3, 20_000])
def test_real_esrgan_takes_two_stages_only(stages):
    parameters = drawn(RealESRGAN())
    changed = parameters | {"stages": [parameters["stages"][0]] * stages}
    with pytest.raises(ValueError, match="stages: expected 2"):
        RealESRGAN().apply(HQ, [changed])
