import copy
import json
import math
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kornia.enhance import jpeg_codec_differentiable
from scipy.ndimage import correlate
from skimage.data import astronaut

from ddpm_pairs.degradations import Bicubic, RealESRGAN
from ddpm_pairs.degradations.kernels import build_kernels
from ddpm_pairs.degradations.real_esrgan import scaled_size


def drawn(model, count: int, seed: int = 0) -> list[dict]:
    return [model.draw(torch.Generator().manual_seed(1000 * seed + number)) for number in range(count)]


def photos(count: int, height: int, width: int) -> torch.Tensor:
    photo = torch.from_numpy(astronaut()).permute(2, 0, 1).float().div(255)
    return torch.stack([photo[:, 20 * i : 20 * i + height, 30 * i : 30 * i + width] for i in range(count)])


def without_noise(parameters: list[dict]) -> list[dict]:
    parameters = copy.deepcopy(parameters)
    for entry in parameters:
        for stage in entry["stages"]:
            stage["noise"] = {"kind": "gaussian", "level": 0.0, "gray": False, "noise_seed": 0}
    return parameters


class TestDraws:
    n = 4000
    draws = drawn(RealESRGAN(), n)

    def assert_share(self, hits: int, probability: float, of: int) -> None:
        tolerance = 4 * math.sqrt(probability * (1 - probability) / of)
        assert abs(hits / of - probability) <= tolerance, (hits / of, probability)

    def assert_uniform(self, values: list[float], low: float, high: float) -> None:
        spread = high - low
        assert low <= min(values) and max(values) <= high
        error = 4 * spread / math.sqrt(12 * len(values))
        assert abs(np.mean(values) - (low + high) / 2) < error
        assert abs(np.quantile(values, 0.25) - (low + spread / 4)) < 2 * error

    @pytest.mark.parametrize(("stage", "probability", "sigma"), [(0, 1.0, 3.0), (1, 0.8, 1.5)])
    def test_blur(self, stage, probability, sigma):
        blurs = [draw["stages"][stage]["blur"] for draw in self.draws]
        blurs = [blur for blur in blurs if blur is not None]
        if probability == 1:
            assert len(blurs) == self.n
        self.assert_share(len(blurs), probability, self.n)
        kinds = Counter(blur["kind"] for blur in blurs)
        family = {
            "iso": 0.45,
            "aniso": 0.25,
            "generalized_iso": 0.12,
            "generalized_aniso": 0.03,
            "plateau_iso": 0.12,
            "plateau_aniso": 0.03,
        }
        self.assert_share(kinds["sinc"], 0.1, len(blurs))
        for kind, share in family.items():
            self.assert_share(kinds[kind], 0.9 * share, len(blurs))
        sides = Counter(blur["side"] for blur in blurs)
        assert sorted(sides) == [7, 9, 11, 13, 15, 17, 19, 21]
        for count in sides.values():
            self.assert_share(count, 1 / 8, len(blurs))
        shaped = [blur for blur in blurs if blur["kind"] != "sinc"]
        self.assert_uniform([blur["sigma_x"] for blur in shaped], 0.2, sigma)
        aniso = [blur for blur in shaped if blur["kind"].endswith("aniso")]
        self.assert_uniform([blur["sigma_y"] for blur in aniso], 0.2, sigma)
        self.assert_uniform([blur["angle"] for blur in aniso], -math.pi, math.pi)
        iso = [blur for blur in shaped if not blur["kind"].endswith("aniso")]
        assert all(blur["sigma_x"] == blur["sigma_y"] and blur["angle"] == 0 for blur in iso)

    def test_betas_and_cutoffs(self):
        blurs = [stage["blur"] for draw in self.draws for stage in draw["stages"] if stage["blur"] is not None]
        generalized = [blur["beta"] for blur in blurs if blur["kind"].startswith("generalized")]
        self.assert_share(sum(beta < 1 for beta in generalized), 0.5, len(generalized))
        self.assert_uniform([beta for beta in generalized if beta < 1], 0.5, 1)
        self.assert_uniform([beta for beta in generalized if beta >= 1], 1, 4)
        plateau = [blur["beta"] for blur in blurs if blur["kind"].startswith("plateau")]
        self.assert_share(plateau.count(1.0), 0.5, len(plateau))
        self.assert_uniform([beta for beta in plateau if beta != 1], 1, 2)
        assert all("beta" not in blur for blur in blurs if blur["kind"] in ("iso", "aniso", "sinc"))
        sinc = [blur for blur in blurs if blur["kind"] == "sinc"]
        self.assert_uniform([blur["cutoff"] for blur in sinc if blur["side"] < 13], math.pi / 3, math.pi)
        self.assert_uniform([blur["cutoff"] for blur in sinc if blur["side"] >= 13], math.pi / 5, math.pi)

    @pytest.mark.parametrize(
        ("stage", "up", "down", "highest", "lowest"), [(0, 0.2, 0.7, 1.5, 0.15), (1, 0.3, 0.4, 1.2, 0.3)]
    )
    def test_resize(self, stage, up, down, highest, lowest):
        resizes = [draw["stages"][stage]["resize"] for draw in self.draws]
        factors = [resize["factor"] for resize in resizes]
        ups, downs = [f for f in factors if f > 1], [f for f in factors if f < 1]
        self.assert_share(len(ups), up, self.n)
        self.assert_share(len(downs), down, self.n)
        self.assert_uniform(ups, 1, highest)
        self.assert_uniform(downs, lowest, 1)
        for count in Counter(resize["mode"] for resize in resizes).values():
            self.assert_share(count, 1 / 3, self.n)

    @pytest.mark.parametrize(("stage", "sigma", "factor"), [(0, 30, 3), (1, 25, 2.5)])
    def test_noise_and_quality(self, stage, sigma, factor):
        noises = [draw["stages"][stage]["noise"] for draw in self.draws]
        gaussian = [noise["level"] for noise in noises if noise["kind"] == "gaussian"]
        self.assert_share(len(gaussian), 0.5, self.n)
        self.assert_uniform(gaussian, 1, sigma)
        self.assert_uniform([noise["level"] for noise in noises if noise["kind"] == "poisson"], 0.05, factor)
        self.assert_share(sum(noise["gray"] for noise in noises), 0.4, self.n)
        assert len({noise["noise_seed"] for noise in noises}) == self.n
        self.assert_uniform([draw["stages"][stage]["quality"] for draw in self.draws], 30, 95)

    def test_tail(self):
        tails = [draw["tail"] for draw in self.draws]
        self.assert_share(sum(tail["jpeg_last"] for tail in tails), 0.5, self.n)
        sinc = [tail["sinc"] for tail in tails if tail["sinc"] is not None]
        self.assert_share(len(sinc), 0.8, self.n)
        self.assert_uniform([kernel["cutoff"] for kernel in sinc], math.pi / 3, math.pi)
        for count in Counter(kernel["side"] for kernel in sinc).values():
            self.assert_share(count, 1 / 8, len(sinc))
        for count in Counter(tail["mode"] for tail in tails).values():
            self.assert_share(count, 1 / 3, self.n)


def reference(hq: np.ndarray, parameters: dict, lq_size: tuple[int, int]) -> np.ndarray:
    """The chain for one picture without noise, spelt out with scipy's convolution."""

    def blurred(image: torch.Tensor, entry: dict | None) -> torch.Tensor:
        if entry is None:
            return image
        kernel = build_kernels([entry], entry["side"])[0].double().numpy()
        return torch.from_numpy(
            np.stack([correlate(plane, kernel, mode="mirror") for plane in image.double().numpy()])
        ).float()

    def resized(image: torch.Tensor, size: tuple[int, int], mode: str) -> torch.Tensor:
        return F.interpolate(image[None], size=size, mode=mode)[0]

    def encoded(image: torch.Tensor, quality: float) -> torch.Tensor:
        return jpeg_codec_differentiable(image.clamp(0, 1)[None], torch.tensor([quality]))[0]

    (first, second), tail = parameters["stages"], parameters["tail"]
    image = blurred(torch.from_numpy(hq), first["blur"])
    image = resized(image, scaled_size(hq.shape[-2:], first["resize"]["factor"]), first["resize"]["mode"])
    image = encoded(image, first["quality"])
    image = blurred(image, second["blur"])
    image = resized(image, scaled_size(lq_size, second["resize"]["factor"]), second["resize"]["mode"]).clamp(0, 1)
    if tail["jpeg_last"]:
        image = encoded(blurred(resized(image, lq_size, tail["mode"]), tail["sinc"]), second["quality"])
    else:
        image = blurred(resized(encoded(image, second["quality"]), lq_size, tail["mode"]), tail["sinc"])
    return image.clamp(0, 1).numpy()


@pytest.mark.parametrize("scale", [2, 4])
def test_each_row_goes_through_its_own_chain(scale):
    hq, model = photos(8, 112, 96), RealESRGAN(scale)
    parameters = without_noise(drawn(model, 8, seed=3))
    assert {entry["tail"]["jpeg_last"] for entry in parameters} == {True, False}
    lq = model.apply(hq, parameters)
    for row, image, entry in zip(lq, hq, parameters, strict=True):
        expected = reference(image.numpy(), entry, (112 // scale, 96 // scale))
        assert np.abs(row.numpy() - expected).max() < 0.55 / 255


@pytest.mark.parametrize("model", [RealESRGAN(1), RealESRGAN(2), RealESRGAN(4), Bicubic(1), Bicubic(2), Bicubic(4)])
def test_content_stays_in_place(model):
    # a ramp along each axis; without blur its borders stay at the border. The phases, fractions of a level, average out
    # the rounding to 8 bit
    length, count = 1024, 8
    phases = (torch.arange(count) / count / 255).view(-1, 1, 1, 1)
    ramp = torch.linspace(0.1, 0.9, length).expand(count, 3, 16, length) + phases
    parameters = without_noise(drawn(model, 5)) if isinstance(model, RealESRGAN) else [{}]
    for entry in parameters:
        for stage in entry.get("stages", ()):
            stage.update(blur=None, quality=100.0)
        entry.get("tail", {}).update(sinc=None)
        for transposed in (False, True):
            lq = model.apply(ramp.mT if transposed else ramp, [entry] * count) - phases
            line = (lq.mT if transposed else lq).double().mean(dim=(0, 1, 2))
            expected = (torch.arange(len(line)) + 0.5) * model.scale - 0.5
            drift = (line - 0.1) / 0.8 * (length - 1) - expected
            inner = slice(len(line) // 10, -len(line) // 10)
            # area and bicubic kernels move single pixels to and fro; drift is what stays of that along the line
            slope, offset = np.polyfit(expected[inner], drift[inner], 1)
            assert abs(offset + 0.1 * length * slope) < 0.1, entry
            assert abs(offset + 0.9 * length * slope) < 0.1, entry


def test_scale_1_is_scale_4_enlarged():
    hq, parameters = photos(2, 64, 96), drawn(RealESRGAN(), 2)
    small = RealESRGAN(4).apply(hq, parameters)
    expected = F.interpolate(small, size=(64, 96), mode="bilinear")
    assert (RealESRGAN(1).apply(hq, parameters) - expected).abs().max() < 1.01 / 255


@pytest.mark.parametrize("scale", [1, 4])
def test_parameters_survive_json_and_replay_bit_for_bit(scale):
    model, hq = RealESRGAN(scale), photos(4, 64, 64)
    parameters, untouched = drawn(model, 4), hq.clone()
    lq = model.apply(hq, parameters)
    replayed = json.loads(json.dumps(parameters))
    assert replayed == parameters == drawn(model, 4)
    assert torch.equal(model.apply(hq, replayed), lq)
    assert torch.equal(hq, untouched)
    assert torch.equal((lq * 255).round() / 255, lq)
    assert not lq.requires_grad


@pytest.mark.parametrize("count", [4, 8])
@pytest.mark.parametrize("model", [RealESRGAN(1), RealESRGAN(4), Bicubic(1), Bicubic(4)])
def test_rows_are_independent(model, count):
    hq, parameters = photos(count, 96, 64), drawn(model, count)
    lq = model.apply(hq, parameters)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(5)).tolist()
    permuted = model.apply(hq[order], [parameters[i] for i in order])
    assert torch.equal(permuted, lq[order])
    others = drawn(model, count, seed=9)
    for keep in range(count):
        mixed = torch.rand(hq.shape, generator=torch.Generator().manual_seed(keep))
        mixed[keep], others[keep] = hq[keep], parameters[keep]
        assert torch.equal(model.apply(mixed, others)[keep], lq[keep]), keep


def test_autocast_does_not_reach_the_model():
    model, hq = RealESRGAN(4), photos(2, 64, 64)
    parameters = drawn(model, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model.apply(hq, parameters), RealESRGAN(4).apply(hq, parameters))
        inside = model.apply(hq, parameters)
    assert torch.equal(inside, model.apply(hq, parameters))


EXTREME = {
    "stages": [
        {
            "blur": {
                "kind": "generalized_aniso",
                "side": 21,
                "sigma_x": 0.2,
                "sigma_y": 3.0,
                "angle": 3.1,
                "beta": 4.0,
            },
            "resize": {"factor": 0.15, "mode": "bicubic"},
            "noise": {"kind": "poisson", "level": 3.0, "gray": True, "noise_seed": 1},
            "quality": 30.0,
        },
        {
            "blur": {"kind": "sinc", "side": 21, "cutoff": math.pi / 5},
            "resize": {"factor": 0.3, "mode": "bicubic"},
            "noise": {"kind": "gaussian", "level": 25.0, "gray": False, "noise_seed": 2},
            "quality": 30.0,
        },
    ],
    "tail": {"mode": "bicubic", "sinc": {"kind": "sinc", "side": 21, "cutoff": math.pi / 3}, "jpeg_last": True},
}


@pytest.mark.parametrize(
    ("scale", "size"), [(1, (1, 1)), (1, (17, 5)), (2, (2, 6)), (4, (4, 4)), (4, (16, 16)), (4, (8, 400))]
)
def test_smallest_pictures_and_hardest_parameters(scale, size):
    model = RealESRGAN(scale)
    hq = torch.stack([torch.zeros(3, *size), torch.ones(3, *size), torch.rand(3, *size), torch.rand(3, *size)])
    other = {**EXTREME, "tail": {"mode": "area", "sinc": None, "jpeg_last": False}}
    lq = model.apply(hq, [EXTREME, other, EXTREME, *drawn(model, 1)])
    assert lq.shape == (4, 3, size[0] // scale, size[1] // scale)
    assert lq.isfinite().all() and lq.min() >= 0 and lq.max() <= 1
