import numpy as np
import pytest
import torch

from ddpm_pairs.images.pixels import canvas_size, crop_to_multiple, pad_to_canvas


@pytest.mark.parametrize(
    ("size", "multiple", "expected"),
    [
        ((64, 92), 32, (64, 96)),
        ((64, 64), 64, (64, 64)),
        ((65, 64), 8, (72, 64)),
        ((4, 4), 64, (64, 64)),
        ((7, 5), 1, (7, 5)),
    ],
)
def test_canvas_is_the_smallest_that_holds_the_picture(size, multiple, expected):
    assert canvas_size(size, multiple) == expected


def test_crop_keeps_the_top_left():
    picture = torch.arange(7 * 10).view(1, 7, 10)
    assert torch.equal(crop_to_multiple(picture, 4), picture[:, :4, :8])
    assert torch.equal(crop_to_multiple(picture, 1), picture)


@pytest.mark.parametrize("canvas", [(5, 6), (8, 8), (23, 40)])
def test_padding_is_numpys_reflection_and_crops_back(canvas):
    picture = torch.randint(0, 256, (3, 5, 6), dtype=torch.uint8)
    padded = pad_to_canvas(picture, canvas)
    added = [(0, canvas[0] - 5), (0, canvas[1] - 6)]
    np.testing.assert_array_equal(padded, np.pad(picture.numpy(), [(0, 0), *added], mode="reflect"))
    assert torch.equal(padded[:, :5, :6], picture)


def test_a_single_row_is_repeated():
    assert torch.equal(pad_to_canvas(torch.tensor([[[1, 2]]]), (3, 2)), torch.tensor([[[1, 2]] * 3]))
