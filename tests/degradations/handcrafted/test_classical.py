import math

import cv2
import numpy as np
import pytest
import torch
from degradation_records import NO_NOISE, crops, drawn, rewritten
from distributions import assert_equally_likely, assert_share, assert_uniform

from ddpm_pairs.degradations import Classical, ClassicalFaces
from ddpm_pairs.degradations.ops.jpeg import jpeg

N = 20_000


@pytest.mark.parametrize(
    ("model", "side", "low", "high"),
    [
        (ClassicalFaces(), 41, 0.1, 10),
        (Classical(1), 21, 0.2, 2),
        (Classical(2), 21, 0.2, 2),
        (Classical(4), 21, 0.2, 4),
    ],
)
def test_draws(model, side, low, high):
    generator = torch.Generator().manual_seed(0)
    draws = [model.draw(generator) for _ in range(N)]
    blurs = [draw["blur"] for draw in draws]
    assert {blur["side"] for blur in blurs} == {side}
    aniso = [blur for blur in blurs if blur["kind"] == "aniso"]
    iso = [blur for blur in blurs if blur["kind"] == "iso"]
    assert len(aniso) + len(iso) == N
    assert_share(len(iso), 0.5, N)
    assert all(blur["sigma_x"] == blur["sigma_y"] and blur["angle"] == 0 for blur in iso)
    assert_uniform([blur["sigma_x"] for blur in iso], low, high)
    for name in ("sigma_x", "sigma_y"):
        assert_uniform([blur[name] for blur in aniso], low, high)
    assert_uniform([blur["angle"] for blur in aniso], -math.pi, math.pi)
    noises = [draw["noise"] for draw in draws]
    assert {(noise["kind"], noise["gray"]) for noise in noises} == {("gaussian", False)}
    assert_uniform([noise["level"] for noise in noises], 0, 20)
    assert len({noise["noise_seed"] for noise in noises}) == N
    assert_equally_likely([draw["quality"] for draw in draws], range(60, 100))
    assert all(draw["colour"] is None for draw in draws)
    if isinstance(model, ClassicalFaces):
        assert_uniform([draw["resize"]["factor"] for draw in draws], 0.8, 8)
    else:
        assert all(draw["resize"] == {"mode": "bicubic"} for draw in draws)


def gaussian_kernel(entry: dict) -> np.ndarray:
    radius = entry["side"] // 2
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(float)
    cos, sin = math.cos(entry["angle"]), math.sin(entry["angle"])
    rotation = np.array([[cos, -sin], [sin, cos]])
    inverse = np.linalg.inv(rotation @ np.diag([entry["sigma_x"] ** 2, entry["sigma_y"] ** 2]) @ rotation.T)
    kernel = np.exp(-(inverse[0, 0] * x * x + 2 * inverse[0, 1] * x * y + inverse[1, 1] * y * y) / 2)
    return kernel / kernel.sum()


def blurred(image: torch.Tensor, entry: dict) -> np.ndarray:
    planes = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    return cv2.filter2D(planes, -1, gaussian_kernel(entry), borderType=cv2.BORDER_REFLECT_101)


def encoded(image: np.ndarray, quality: float) -> np.ndarray:
    batch = torch.from_numpy(image).permute(2, 0, 1)[None].clamp(0, 1)
    return jpeg(batch, [float(quality)])[0].permute(1, 2, 0).numpy()


def test_faces_equal_the_recipe_in_opencv():
    hq, model = crops(6, 120, 96), ClassicalFaces()
    parameters = rewritten(drawn(model, 6), noise=NO_NOISE)
    for row, image, entry in zip(model.apply(hq, parameters), hq, parameters, strict=True):
        size = int(96 / entry["resize"]["factor"]), int(120 / entry["resize"]["factor"])
        small = encoded(
            cv2.resize(blurred(image, entry["blur"]), size, interpolation=cv2.INTER_LINEAR), entry["quality"]
        )
        expected = cv2.resize(small, (96, 120), interpolation=cv2.INTER_LINEAR)
        assert np.abs(row.permute(1, 2, 0).numpy() - expected).max() < 0.55 / 255


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_natural_pictures_equal_the_chain_with_pils_filter(scale):
    from PIL import Image

    hq, model = crops(4, 128, 96), Classical(scale)
    parameters = rewritten(drawn(model, 4), noise=NO_NOISE)
    for row, image, entry in zip(model.apply(hq, parameters), hq, parameters, strict=True):
        planes = blurred(image, entry["blur"]).transpose(2, 0, 1)
        size = (96 // scale, 128 // scale)
        small = [np.array(Image.fromarray(plane, "F").resize(size, Image.Resampling.BICUBIC)) for plane in planes]
        expected = encoded(np.stack(small, axis=-1), entry["quality"])
        assert np.abs(row.permute(1, 2, 0).numpy() - expected).max() < 0.55 / 255


def test_noise_comes_before_jpeg_and_has_its_level():
    flat = torch.full((2, 3, 256, 256), 0.5)
    model = Classical(1)
    parameters = [{**entry, "quality": 100} for entry in drawn(model, 2)]
    for row, entry in zip(model.apply(flat, parameters), parameters, strict=True):
        # in luminance, which JPEG at 100 keeps, three independent fields have 0.67 of one's standard deviation
        luma = torch.tensordot(torch.tensor([0.299, 0.587, 0.114]), row, 1)
        expected = entry["noise"]["level"] * math.sqrt(0.299**2 + 0.587**2 + 0.114**2)
        assert luma.std().item() * 255 == pytest.approx(expected, rel=0.03)
        assert entry["noise"]["level"] > 1


def test_colour_changes_are_drawn_last_and_come_last():
    hq, plain, coloured = crops(4, 64, 48), ClassicalFaces(), ClassicalFaces(colour=True)
    without, parameters = drawn(plain, 4), drawn(coloured, 4)
    assert [{**entry, "colour": None} for entry in parameters] == without
    gray = {"shift": [10.0, 0.0, -10.0], "gray": True, "jitter": None}
    chosen = [{**parameters[0], "colour": gray}, *without[1:]]
    lq, expected = coloured.apply(hq, chosen), plain.apply(hq, without)
    assert torch.equal(lq[1:], expected[1:])
    shifted = (expected[0] * 255 + torch.tensor([10.0, 0.0, -10.0]).view(3, 1, 1)).clamp(0, 255)
    luma = torch.tensordot(torch.tensor([0.299, 0.587, 0.114]), shifted, 1)
    assert torch.equal(lq[0, 0], lq[0, 2]) and (lq[0, 0] * 255 - luma).abs().max() < 1.01
