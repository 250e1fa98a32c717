import math
from collections import Counter

import cv2
import numpy as np
import pytest
import torch
from degradation_records import NO_BLUR, NO_NOISE, crops, drawn, rewritten
from distributions import assert_equally_likely, assert_share, assert_uniform
from PIL import Image
from scipy.ndimage import convolve
from scipy.stats import multivariate_normal

from ddpm_pairs.degradations import BSRGAN, OnHQGrid
from ddpm_pairs.degradations.ops.jpeg import jpeg

MODES = ("area", "bilinear", "bicubic")
OPENCV = {"area": cv2.INTER_AREA, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}


def steps(draws: list[dict], name: str) -> list[dict]:
    return [step for draw in draws for step in draw["operations"] if step["operation"] == name]


class Draws:
    """Many records at one scale."""

    def __init__(self, scale: int, count: int) -> None:
        generator, model = torch.Generator().manual_seed(7), BSRGAN(scale)
        self.all = [model.draw(generator) for _ in range(count)]
        self.n = count

    def by_factor(self, scale: int) -> list[tuple[int, list[dict]]]:
        """Records that shrink by `scale` after halving or without."""
        whole = [draw for draw in self.all if draw["halve"] is None]
        return [(scale, whole)] + ([(2, [draw for draw in self.all if draw["halve"]])] if scale == 4 else [])


@pytest.fixture(scope="module", params=[(4, 20_000), (2, 5000), (1, 5000)])
def sample(request) -> tuple[int, Draws]:
    scale, count = request.param
    return scale, Draws(scale, count)


def test_drawn_halvings(sample):
    scale, draws = sample
    halved = [draw["halve"]["mode"] for draw in draws.all if draw["halve"] is not None]
    assert_share(len(halved), 0.25 if scale == 4 else 0, draws.n)
    if halved:
        assert_share(halved.count("matlab"), 0.5, len(halved))
        assert_equally_likely([mode for mode in halved if mode != "matlab"], MODES)


def test_drawn_orders(sample):
    _, draws = sample
    orders = [tuple(step["operation"] for step in draw["operations"]) for draw in draws.all]
    assert_share(sum("jpeg" in order for order in orders), 0.9, draws.n)
    for order in orders:
        counts = Counter(order)
        assert counts["blur"] == 2 and counts["jpeg"] <= 1
        assert counts["down"] == counts["resize"] == counts["noise"] == 1
        assert order.index("down") < order.index("resize")
    # 6! orders, halved by the two blurs that are alike and by "resize" following "down"
    complete = [order for order in orders if len(order) == 6]
    assert len(set(complete)) == 180
    assert_equally_likely(complete, set(complete))


def test_drawn_blurs(sample):
    scale, draws = sample
    for factor, records in draws.by_factor(scale):
        blurs = [step["blur"] for step in steps(records, "blur")]
        assert_equally_likely([blur["side"] for blur in blurs], range(7, 26, 2))
        aniso = [blur for blur in blurs if blur["kind"] == "aniso"]
        iso = [blur for blur in blurs if blur["kind"] == "iso"]
        assert len(aniso) + len(iso) == len(blurs)
        assert_share(len(aniso), 0.5, len(blurs))
        for name in ("sigma_x", "sigma_y"):
            # variances, and a floor at 0.1^2 that hardly shows
            assert_uniform([blur[name] ** 2 for blur in aniso], 0, 4 + factor + 1e-9)
        assert_uniform([blur["angle"] for blur in aniso], 0, math.pi)
        assert all(blur["sigma_x"] == blur["sigma_y"] and blur["angle"] == 0 for blur in iso)
        sigmas = [blur["sigma_x"] for blur in iso]
        highest = 2 + 0.2 * factor
        assert_share(sigmas.count(0.1), 0.1 / highest, len(sigmas))
        assert_uniform([sigma for sigma in sigmas if sigma > 0.1], 0.1, highest)
        assert min(sigmas) == 0.1


def test_drawn_downsamplings(sample):
    scale, draws = sample
    for factor, records in draws.by_factor(scale):
        downs = steps(records, "down")
        decimations = [step for step in downs if "kernel" in step]
        resizes = [step["resize"] for step in downs if "resize" in step]
        assert len(decimations) + len(resizes) == len(downs)
        assert_share(len(decimations), 0.25, len(downs))
        assert {(step["step"], step["kernel"]["shift"]) for step in decimations} == {(factor, (factor - 1) / 2)}
        assert_uniform([step["kernel"]["sigma"] for step in decimations], 0.1, 0.6 * factor)
        assert_uniform([1 / resize["factor"] for resize in resizes], 1 - 1e-9, 2 * factor + 1e-9)
        assert_equally_likely([resize["mode"] for resize in resizes], MODES)
    assert_equally_likely([step["mode"] for step in steps(draws.all, "resize")], MODES)


def test_drawn_noises_and_qualities(sample):
    _, draws = sample
    noises = [step["noise"] for step in steps(draws.all, "noise")]
    correlated = [noise["covariance"] for noise in noises if noise["kind"] == "correlated"]
    white = [noise for noise in noises if noise["kind"] == "gaussian"]
    assert len(correlated) + len(white) == draws.n
    assert_share(len(correlated), 0.2, draws.n)
    assert_share(sum(noise["gray"] for noise in white), 0.4, draws.n)
    assert_equally_likely([noise["level"] for noise in white], range(2, 26))
    assert len({noise["noise_seed"] for noise in noises}) == draws.n
    traces = np.trace(np.array(correlated), axis1=1, axis2=2)
    assert traces.min() > 0 and traces.max() < 3 * (25 / 255) ** 2
    error = 4 * math.sqrt(3 / 12 / len(traces))
    assert abs(np.mean(traces) / (25 / 255) ** 2 - 1.5) < error  # the trace is d_1 + d_2 + d_3
    assert_equally_likely([step["quality"] for step in steps(draws.all, "jpeg")], range(30, 96))
    assert_equally_likely([draw["quality"] for draw in draws.all], range(30, 96))


def kernel_of(entry: dict) -> np.ndarray:
    """BSRGAN's kernel: a normal density with the covariance V D V^-1."""
    direction = np.array([math.cos(entry["angle"]), math.sin(entry["angle"])])
    v = np.array([[direction[0], direction[1]], [direction[1], -direction[0]]])
    covariance = v @ np.diag([entry["sigma_x"] ** 2, entry["sigma_y"] ** 2]) @ np.linalg.inv(v)
    radius = entry["side"] // 2
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    kernel = multivariate_normal.pdf(np.dstack((x, y)), [0, 0], covariance)
    return kernel / kernel.sum()


def decimated(image: np.ndarray, sigma: float, shift: float, step: int) -> np.ndarray:
    axis = np.arange(25) - 12
    kernel = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * sigma**2)).astype(np.float32)
    rows, columns = np.mgrid[0:25, 0:25].astype(np.float32) + np.float32(shift)
    moved = cv2.remap(kernel, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(float)
    return convolve(image, (moved / moved.sum())[..., None], mode="mirror")[::step, ::step]


def reference(image: np.ndarray, parameters: dict, lq_size: tuple[int, int]) -> np.ndarray:
    """The chain for one (H, W, 3) picture without noise, in double precision, by SciPy, OpenCV and Pillow."""

    def resized(size: tuple[int, int], mode: str) -> np.ndarray:
        return cv2.resize(image, size[::-1], interpolation=OPENCV[mode]).clip(0, 1)

    def encoded(quality: float) -> np.ndarray:
        batch = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None].clamp(0, 1)
        encoded = jpeg(batch, [float(quality)])
        return encoded[0].permute(1, 2, 0).double().numpy()

    if parameters["halve"] is not None:
        half = (image.shape[0] // 2, image.shape[1] // 2)
        if parameters["halve"]["mode"] == "matlab":
            planes = [Image.fromarray(plane.astype(np.float32), "F") for plane in image.transpose(2, 0, 1)]
            smaller = [np.array(plane.resize(half[::-1], Image.Resampling.BICUBIC)) for plane in planes]
            image = np.stack(smaller, axis=-1).astype(float).clip(0, 1)
        else:
            image = resized(half, parameters["halve"]["mode"])
    for step in parameters["operations"]:
        match step["operation"]:
            case "blur":
                image = convolve(image, kernel_of(step["blur"])[..., None], mode="mirror")
            case "down" if "kernel" in step:
                image = decimated(image, **step["kernel"], step=step["step"])
            case "down":
                factor = step["resize"]["factor"]
                image = resized((int(image.shape[0] * factor), int(image.shape[1] * factor)), step["resize"]["mode"])
            case "resize":
                image = resized(lq_size, step["mode"])
            case "jpeg":
                image = encoded(step["quality"])
    return encoded(parameters["quality"])


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_each_row_goes_through_its_own_chain(scale):
    count = 24 if scale == 4 else 8
    hq, model = crops(8, 96, 96).repeat(count // 8, 1, 1, 1), BSRGAN(scale)
    parameters = rewritten(drawn(model, count, seed=2), noise=NO_NOISE)
    if scale == 4:
        assert {entry["halve"]["mode"] for entry in parameters if entry["halve"]} >= {"matlab", "area"}
    assert any("kernel" in step for step in steps(parameters, "down"))
    lq, exact = model.apply(hq, parameters), 0
    for row, image, entry in zip(lq, hq, parameters, strict=True):
        expected = reference(image.permute(1, 2, 0).double().numpy(), entry, (96 // scale, 96 // scale))
        difference = np.abs(row.permute(1, 2, 0).numpy() - expected)
        # a coefficient that lies between two levels to seven digits may be rounded to the other one: a block differs
        assert np.sqrt(np.mean(difference**2)) < 2 / 255, entry
        exact += difference.max() < 0.6 / 255
    assert exact >= count - 2


def test_faces_of_odd_sides_are_not_stretched_by_decimation():
    # 4 does not divide 509: 128 pixels four apart end 1.5 px beyond the last pixel
    length, phases = 509, (torch.arange(8) / 8 / 255).view(-1, 1, 1, 1)
    ramp = torch.linspace(0.1, 0.9, length).expand(8, 3, 16, length) + phases
    down = {"operation": "down", "kernel": {"sigma": 1.0, "shift": 1.5}, "step": 4}
    entry = {"halve": None, "operations": [down, {"operation": "resize", "mode": "bilinear"}], "quality": 100}
    parameters = [{"degradation": {"name": "bsrgan", "parameters": entry}}] * 8
    line = (OnHQGrid("bsrgan").apply(ramp, parameters) - phases).double().mean(dim=(0, 1, 2))
    drift = (line - 0.1) / 0.8 * (length - 1) - torch.arange(length)
    slope, offset = np.polyfit(np.arange(length)[20:-20], drift[20:-20], 1)
    assert abs(offset + slope * 20) < 0.1 and abs(offset + slope * (length - 20)) < 0.1


def test_noise_of_every_kind_arrives():
    flat = torch.full((3, 3, 256, 256), 0.5)
    kinds = [
        {"kind": "gaussian", "level": 20, "gray": False, "noise_seed": 1},
        {"kind": "gaussian", "level": 20, "gray": True, "noise_seed": 2},
        {
            "kind": "correlated",
            "covariance": [[0.006, 0.005, 0.0], [0.005, 0.006, 0.0], [0.0, 0.0, 0.001]],
            "noise_seed": 3,
        },
    ]
    parameters = [
        {"halve": None, "operations": [{"operation": "noise", "noise": noise}], "quality": 100} for noise in kinds
    ]
    rows = BSRGAN(1).apply(flat, parameters).flatten(2)
    expected = [
        torch.eye(3) * (20 / 255) ** 2,
        torch.full((3, 3), (20 / 255) ** 2),
        torch.tensor(kinds[2]["covariance"]),
    ]
    luma = torch.tensor([0.299, 0.587, 0.114])
    for row, covariance in zip(rows, expected, strict=True):
        # JPEG halves chroma, so only the variance of luminance is what was put in
        assert (luma @ row).var().item() == pytest.approx((luma @ covariance @ luma).item(), rel=0.04)
    spread = [(row[0] - row[1]).std().item() for row in rows]
    assert spread[1] < 0.003 < spread[2] < spread[0]


def test_a_kernel_of_no_width_is_no_blur(monkeypatch):
    # JPEG would make steps of what is left in the seventh digit
    monkeypatch.setattr("ddpm_pairs.degradations.handcrafted.bsrgan.jpeg", lambda images, qualities: images)
    hq, model = crops(2, 48, 48), BSRGAN(4)
    parameters = rewritten(drawn(model, 2), noise=NO_NOISE)
    smallest = {"kind": "aniso", "side": 25, "sigma_x": 0.1, "sigma_y": 0.1, "angle": 1.0}
    blurred, plain = (model.apply(hq, rewritten(parameters, blur=blur)) for blur in (smallest, NO_BLUR))
    assert (blurred - plain).abs().max() < 1.01 / 255
