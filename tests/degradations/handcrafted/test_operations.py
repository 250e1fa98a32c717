import json
import math

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage

from ddpm_pairs.degradations import Blur, Jpeg, Noise, Operation, Resize
from ddpm_pairs.degradations.ops.jpeg import jpeg

SIZE = (24, 32)


def batch_of(photos, n=2):
    return torch.stack([torch.tensor(photo).permute(2, 0, 1).float() / 255 for photo in photos[:n]])


def draws_of(operation, n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [operation.draw(generator) for _ in range(n)]


def pixels(image):
    return (image[0].permute(1, 2, 0).numpy() * 255).astype(np.float64)


def test_blur_equals_scipys_gaussian(photos):
    images = batch_of(photos)
    drawn = [{"blur": {"kind": "iso", "side": 21, "sigma_x": s, "sigma_y": s, "angle": 0.0}} for s in (0.7, 2.2)]
    blurred = Blur().apply(images, drawn, SIZE)
    for row, image, one in zip(blurred, images, drawn, strict=True):
        sigma = one["blur"]["sigma_x"]
        for channel, before in zip(row, image, strict=True):
            expected = ndimage.gaussian_filter(before.numpy(), sigma, mode="mirror", radius=10)
            assert np.abs(channel.numpy() - expected).max() < 1e-5


def test_blur_that_is_left_out_changes_nothing(photos):
    images, left_out = batch_of(photos), Blur(probability=0.0)
    assert draws_of(left_out, 2) == [{"blur": None}] * 2
    assert (left_out.apply(images, draws_of(left_out, 2), SIZE) - images).abs().max() < 1e-6


@pytest.mark.parametrize(("mode", "flag"), [("bilinear", cv2.INTER_LINEAR), ("bicubic", cv2.INTER_CUBIC)])
@pytest.mark.parametrize("factor", [0.5, 1.3])
def test_resize_equals_opencv(photos, mode, flag, factor):
    image = batch_of(photos, 1)
    resized = Resize((0.1, 2.0)).apply(image, [{"resize": {"mode": mode, "factor": factor}}], SIZE)
    height, width = int(96 * factor), int(128 * factor)
    assert resized.shape == (1, 3, height, width)
    expected = cv2.resize(pixels(image), (width, height), interpolation=flag).clip(0, 255)
    assert np.abs(pixels(resized) - expected).max() < 0.02


def test_resize_without_a_factor_goes_to_the_lq_size(photos):
    image = batch_of(photos, 1)
    resized = Resize(modes=["area"]).apply(image, draws_of(Resize(modes=["area"]), 1), SIZE)
    blocks = pixels(image).reshape(24, 4, 32, 4, 3).mean(axis=(1, 3))
    assert np.abs(pixels(resized) - blocks).max() < 1e-3


def test_noise_is_as_strong_as_drawn_and_left_out_where_it_is():
    gray = torch.full((3, 3, 96, 128), 0.5)
    noise = {"kind": "gaussian", "level": 12.0, "gray": True, "noise_seed": 5}
    first, second, third = Noise().apply(
        gray, [{"noise": noise}, {"noise": None}, {"noise": noise | {"gray": False}}], SIZE
    )
    assert first.std().item() * 255 == pytest.approx(12, rel=0.03)
    assert torch.equal(first[0], first[1]) and not torch.equal(third[0], third[1])
    assert torch.equal(second, gray[1])


def test_jpeg_where_drawn(photos):
    images = batch_of(photos, 3)
    found = Jpeg().apply(images, [{"quality": 30.0}, {"quality": None}, {"quality": 80.0}], SIZE)
    expected = jpeg(images, [30.0, 100.0, 80.0])
    assert torch.equal(found[0], expected[0]) and torch.equal(found[2], expected[2])
    assert torch.equal(found[1], images[1])
    assert Jpeg().apply(images, [{"quality": None}] * 3, SIZE) is images


def test_draws_keep_to_their_ranges_and_shares():
    n = 4000
    blurs = [
        one["blur"]
        for one in draws_of(Blur(["iso", "iso", "sinc", "plateau_aniso"], (0.5, 2), (7, 9), (1, 2), (1, 3), 0.6), n)
    ]
    kept = [one for one in blurs if one is not None]
    assert abs(len(kept) - 0.6 * n) < 4 * math.sqrt(n * 0.6 * 0.4)
    shares = {kind: sum(one["kind"] == kind for one in kept) / len(kept) for kind in ("iso", "sinc", "plateau_aniso")}
    assert shares == pytest.approx(
        {"iso": 0.5, "sinc": 0.25, "plateau_aniso": 0.25}, abs=4 * 0.5 / math.sqrt(len(kept))
    )
    assert {one["side"] for one in kept} == {7, 9}
    for one in kept:
        if one["kind"] == "sinc":
            assert 1 <= one["cutoff"] <= 3 and set(one) == {"kind", "side", "cutoff"}
        else:
            assert 0.5 <= one["sigma_x"] <= 2 and 0.5 <= one["sigma_y"] <= 2
            assert (one["sigma_x"] == one["sigma_y"] and one["angle"] == 0) == (one["kind"] == "iso")
            assert ("beta" in one) == (one["kind"] == "plateau_aniso") and 1 <= one.get("beta", 1) <= 2
    noises = [one["noise"] for one in draws_of(Noise(["gaussian", "poisson"], (2, 5), (0.1, 0.3), 0.25), n)]
    assert abs(sum(one["gray"] for one in noises) - 0.25 * n) < 4 * math.sqrt(n * 0.25 * 0.75)
    assert all(
        (2 <= one["level"] <= 5) if one["kind"] == "gaussian" else (0.1 <= one["level"] <= 0.3) for one in noises
    )
    assert len({one["noise_seed"] for one in noises}) == n
    factors = [one["resize"]["factor"] for one in draws_of(Resize((0.2, 1.5)), n)]
    assert min(factors) >= 0.2 and max(factors) <= 1.5
    assert np.mean(factors) == pytest.approx(0.85, abs=4 * 1.3 / math.sqrt(12 * n))
    qualities = [one["quality"] for one in draws_of(Jpeg((40, 60), 0.5), n)]
    assert all(one is None or 40 <= one <= 60 for one in qualities)


@pytest.mark.parametrize("operation", [Blur(["sinc", "plateau_iso"]), Resize((0.5, 1)), Resize(), Noise(), Jpeg()])
def test_records_survive_json_and_operations_fit_the_protocol(operation):
    drawn = draws_of(operation, 5)
    assert json.loads(json.dumps(drawn)) == drawn
    assert isinstance(operation, Operation)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Blur(kinds=["round"]), "Blur.kinds: got"),
        (lambda: Blur(kinds=[]), "Blur.kinds: got"),
        (lambda: Blur(kinds="iso"), "Blur.kinds: got 'iso'"),
        (lambda: Blur(sigma=(3, 1)), r"Blur.sigma: got \[3, 1\]; expected \[low, high\]"),
        (lambda: Blur(sides=[8]), r"Blur.sides: got \[8\]; expected one or more odd"),
        (lambda: Blur(cutoff=(1, 4)), r"0.01 <= low <= high <= 3.142"),
        (lambda: Blur(probability=2), "Blur.probability: got 2"),
        (lambda: Resize((0, 1)), "Resize.factor: got"),
        (lambda: Resize(modes=["lanczos"]), "Resize.modes: got"),
        (lambda: Noise(kinds=["speckle"]), "Noise.kinds: got"),
        (lambda: Noise(sigma=(-1, 1)), "Noise.sigma: got"),
        (lambda: Noise(gray=-0.1), "Noise.gray: got"),
        (lambda: Jpeg((0, 50)), "Jpeg.quality: got"),
        (lambda: Jpeg((50, 101)), "1 <= low <= high <= 100"),
    ],
)
def test_errors_are_one_line(make, text):
    with pytest.raises(ValueError, match=text) as caught:
        make()
    assert "\n" not in str(caught.value)
