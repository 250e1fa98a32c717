import base64
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_pairs.reports.html.values import as_text, distance, number, png_uri


def test_an_image_comes_back_pixel_by_pixel():
    pixels = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    head, _, body = png_uri(pixels).partition(",")
    assert head == "data:image/png;base64"
    with Image.open(BytesIO(base64.b64decode(body))) as read:
        assert np.array_equal(np.array(read), pixels.permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (number(1.005, 1), "1.0"),
        (number(0.5, 1, "+"), "+0.5"),
        (number(None), "–"),
        (number(float("nan")), "–"),
        (number(float("inf")), "∞"),
        (distance(12.3), "12.30"),
        (distance(0.0147712), "0.01477"),
        (distance(None), "–"),
        (distance(float("nan")), "–"),
    ],
)
def test_numbers(shown, expected):
    assert shown == expected


def test_settings_as_text():
    assert as_text({"a": ["x", 1], "b": None, "c": 0.5, "d": ()}) == {"a": "x, 1", "b": "none", "c": "0.5", "d": ""}
