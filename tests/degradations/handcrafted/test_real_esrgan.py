import math

import cv2
import numpy as np
import pytest
import torch
from degradation_records import NO_NOISE, crops, drawn, rewritten
from distributions import assert_equally_likely, assert_share, assert_uniform
from scipy.ndimage import correlate

from ddpm_pairs.degradations import RealESRGAN
from ddpm_pairs.degradations.ops.jpeg import jpeg
from ddpm_pairs.degradations.ops.kernels import build_kernels
from ddpm_pairs.degradations.ops.resize import scaled_size

N = 20_000
SIDES = (7, 9, 11, 13, 15, 17, 19, 21)
MODES = ("area", "bilinear", "bicubic")


@pytest.fixture(scope="module")
def draws() -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    return [RealESRGAN().draw(generator) for _ in range(N)]


@pytest.mark.parametrize(("stage", "probability", "sigma"), [(0, 1.0, 3.0), (1, 0.8, 1.5)])
def test_drawn_blurs(draws, stage, probability, sigma):
    blurs = [draw["stages"][stage]["blur"] for draw in draws if draw["stages"][stage]["blur"] is not None]
    assert_share(len(blurs), probability, N)
    family = {
        "iso": 0.45,
        "aniso": 0.25,
        "generalized_iso": 0.12,
        "generalized_aniso": 0.03,
        "plateau_iso": 0.12,
        "plateau_aniso": 0.03,
    }
    for kind, share in {"sinc": 0.1, **{kind: 0.9 * share for kind, share in family.items()}}.items():
        assert_share(sum(blur["kind"] == kind for blur in blurs), share, len(blurs))
    assert_equally_likely([blur["side"] for blur in blurs], SIDES)
    shaped = [blur for blur in blurs if blur["kind"] != "sinc"]
    assert {blur["kind"] for blur in shaped} == set(family)
    assert_uniform([blur["sigma_x"] for blur in shaped], 0.2, sigma)
    aniso = [blur for blur in shaped if blur["kind"].endswith("aniso")]
    assert_uniform([blur["sigma_y"] for blur in aniso], 0.2, sigma)
    assert_uniform([blur["angle"] for blur in aniso], -math.pi, math.pi)
    iso = [blur for blur in shaped if not blur["kind"].endswith("aniso")]
    assert all(blur["sigma_x"] == blur["sigma_y"] and blur["angle"] == 0 for blur in iso)


def test_drawn_betas_and_cutoffs(draws):
    blurs = [stage["blur"] for draw in draws for stage in draw["stages"] if stage["blur"] is not None]
    generalized = [blur["beta"] for blur in blurs if blur["kind"].startswith("generalized")]
    assert_share(sum(beta < 1 for beta in generalized), 0.5, len(generalized))
    assert_uniform([beta for beta in generalized if beta < 1], 0.5, 1)
    assert_uniform([beta for beta in generalized if beta >= 1], 1, 4)
    plateau = [blur["beta"] for blur in blurs if blur["kind"].startswith("plateau")]
    assert_share(plateau.count(1.0), 0.5, len(plateau))
    assert_uniform([beta for beta in plateau if beta != 1], 1, 2)
    assert all("beta" not in blur for blur in blurs if blur["kind"] in ("iso", "aniso", "sinc"))
    sinc = [blur for blur in blurs if blur["kind"] == "sinc"]
    assert_uniform([blur["cutoff"] for blur in sinc if blur["side"] < 13], math.pi / 3, math.pi)
    assert_uniform([blur["cutoff"] for blur in sinc if blur["side"] >= 13], math.pi / 5, math.pi)


@pytest.mark.parametrize(
    ("stage", "up", "down", "highest", "lowest"), [(0, 0.2, 0.7, 1.5, 0.15), (1, 0.3, 0.4, 1.2, 0.3)]
)
def test_drawn_resizes(draws, stage, up, down, highest, lowest):
    resizes = [draw["stages"][stage]["resize"] for draw in draws]
    factors = [resize["factor"] for resize in resizes]
    ups, downs = [f for f in factors if f > 1], [f for f in factors if f < 1]
    assert_share(len(ups), up, N)
    assert_share(len(downs), down, N)
    assert_uniform(ups, 1, highest)
    assert_uniform(downs, lowest, 1)
    assert_equally_likely([resize["mode"] for resize in resizes], MODES)


@pytest.mark.parametrize(("stage", "sigma", "factor"), [(0, 30, 3), (1, 25, 2.5)])
def test_drawn_noises_and_qualities(draws, stage, sigma, factor):
    noises = [draw["stages"][stage]["noise"] for draw in draws]
    gaussian = [noise["level"] for noise in noises if noise["kind"] == "gaussian"]
    assert_share(len(gaussian), 0.5, N)
    assert_uniform(gaussian, 1, sigma)
    assert_uniform([noise["level"] for noise in noises if noise["kind"] == "poisson"], 0.05, factor)
    assert_share(sum(noise["gray"] for noise in noises), 0.4, N)
    assert len({noise["noise_seed"] for noise in noises}) == N
    assert_uniform([draw["stages"][stage]["quality"] for draw in draws], 30, 95)


def test_drawn_tails(draws):
    tails = [draw["tail"] for draw in draws]
    assert_share(sum(tail["jpeg_last"] for tail in tails), 0.5, N)
    sinc = [tail["sinc"] for tail in tails if tail["sinc"] is not None]
    assert_share(len(sinc), 0.8, N)
    assert_uniform([kernel["cutoff"] for kernel in sinc], math.pi / 3, math.pi)
    assert_equally_likely([kernel["side"] for kernel in sinc], SIDES)
    assert_equally_likely([tail["mode"] for tail in tails], MODES)


def reference(hq: np.ndarray, parameters: dict, lq_size: tuple[int, int]) -> np.ndarray:
    """The chain for one picture without noise, spelt out with scipy's convolution and OpenCV's resizing."""

    def blurred(image: np.ndarray, entry: dict | None) -> np.ndarray:
        if entry is None:
            return image
        kernel = build_kernels([entry], entry["side"])[0].double().numpy()
        return np.stack([correlate(plane.astype(float), kernel, mode="mirror") for plane in image]).astype(np.float32)

    def resized(image: np.ndarray, size: tuple[int, int], mode: str) -> np.ndarray:
        flag = {"area": cv2.INTER_AREA, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}[mode]
        return cv2.resize(image.transpose(1, 2, 0), size[::-1], interpolation=flag).transpose(2, 0, 1)

    def encoded(image: np.ndarray, quality: float) -> np.ndarray:
        image = torch.from_numpy(np.ascontiguousarray(image)).clamp(0, 1)
        return jpeg(image[None], [quality])[0].numpy()

    (first, second), tail = parameters["stages"], parameters["tail"]
    image = blurred(hq, first["blur"])
    image = resized(image, scaled_size(hq.shape[-2:], first["resize"]["factor"]), first["resize"]["mode"])
    image = encoded(image, first["quality"])
    image = blurred(image, second["blur"])
    image = resized(image, scaled_size(lq_size, second["resize"]["factor"]), second["resize"]["mode"]).clip(0, 1)
    if tail["jpeg_last"]:
        image = encoded(blurred(resized(image, lq_size, tail["mode"]), tail["sinc"]), second["quality"])
    else:
        image = blurred(resized(encoded(image, second["quality"]), lq_size, tail["mode"]), tail["sinc"])
    return image.clip(0, 1)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_each_row_goes_through_its_own_chain(scale):
    hq, model = crops(8, 112, 96), RealESRGAN(scale)
    parameters = rewritten(drawn(model, 8, seed=3), noise=NO_NOISE)
    assert {entry["tail"]["jpeg_last"] for entry in parameters} == {True, False}
    lq, exact = model.apply(hq, parameters), 0
    for row, image, entry in zip(lq, hq, parameters, strict=True):
        difference = np.abs(row.numpy() - reference(image.numpy(), entry, (112 // scale, 96 // scale)))
        # a coefficient that lies between two levels to seven digits may be rounded to the other one: a block differs
        assert np.sqrt(np.mean(difference**2)) < 0.5 / 255, entry
        exact += difference.max() < 0.55 / 255
    assert exact >= 7
