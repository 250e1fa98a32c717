import numpy as np
import pytest
import torch
import torchvision.transforms.functional as vision
from degradation_records import crops
from distributions import assert_equally_likely, assert_share, assert_uniform
from PIL import Image
from skimage.color import rgb2gray

from ddpm_pairs.degradations.ops.color import change_colour, draw_colour, to_gray

N = 20_000
NAMES = ["brightness", "contrast", "saturation", "hue"]
NOTHING = {"shift": None, "gray": False, "jitter": None}


def test_drawn_colour_changes():
    generator = torch.Generator().manual_seed(0)
    draws = [draw_colour(generator) for _ in range(N)]
    shifts = [draw["shift"] for draw in draws if draw["shift"] is not None]
    assert_share(len(shifts), 0.3, N)
    for channel in zip(*shifts, strict=True):
        assert_uniform(channel, -20, 20)
    assert_share(sum(draw["gray"] for draw in draws), 0.01, N)
    jitters = [draw["jitter"] for draw in draws if draw["jitter"] is not None]
    assert_share(len(jitters), 0.3, N)
    ranges = {"brightness": (0.5, 1.5), "contrast": (0.5, 1.5), "saturation": (0, 1.5), "hue": (-0.1, 0.1)}
    for name, (low, high) in ranges.items():
        assert_uniform([jitter[name] for jitter in jitters], low, high)
    assert all(sorted(jitter["order"]) == sorted(NAMES) for jitter in jitters)
    for place in range(4):
        assert_equally_likely([jitter["order"][place] for jitter in jitters], NAMES)


@pytest.mark.parametrize("order", [NAMES, NAMES[::-1]])
def test_jitter_equals_that_of_single_pictures_in_pil(order):
    (image,) = crops(1, 64, 80)
    factors = {"brightness": 0.7, "contrast": 1.3, "saturation": 0.6, "hue": 0.08}
    changed = change_colour(image.unsqueeze(0), {**NOTHING, "jitter": {"order": order, **factors}})[0]
    picture = Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())
    for name in order:
        picture = getattr(vision, f"adjust_{name}")(picture, factors[name])
    difference = np.abs(changed.permute(1, 2, 0).numpy() * 255 - np.asarray(picture, dtype=np.float32))
    assert difference.mean() < 1.5 and difference.max() < 6  # PIL rounds at each step, and the hue to 256 values


def test_shift_moves_each_channel_and_clips():
    image = torch.tensor([0.0, 0.5, 1.0]).expand(1, 3, 2, 3)
    changed = change_colour(image, {**NOTHING, "shift": [20.0, -10.0, 0.0]})[0, :, 0] * 255
    expected = torch.tensor([[20.0, 147.5, 255.0], [0.0, 117.5, 245.0], [0.0, 127.5, 255.0]])
    assert torch.allclose(changed, expected, atol=1e-4)


def test_gray_is_luminance_in_all_channels():
    images = crops(2, 8, 9)
    gray = to_gray(images)
    assert gray.shape == images.shape and torch.equal(gray[:, 0], gray[:, 2])
    weights = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(gray[0, 1], np.tensordot(weights, images[0].numpy(), 1), atol=1e-6)
    assert np.abs(gray[0, 0].numpy() - rgb2gray(images[0].permute(1, 2, 0).numpy())).max() < 0.15
    assert torch.equal(change_colour(images[:1], {**NOTHING, "gray": True}), gray[:1])


def test_nothing_drawn_changes_nothing():
    images = crops(1, 8, 9)
    assert change_colour(images, NOTHING) is images
