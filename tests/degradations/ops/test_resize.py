import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_pairs.degradations.ops.resize import MODES, resize, scaled_size
from ddpm_pairs.images.pixels import resize_bicubic

OPENCV = {"area": cv2.INTER_AREA, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("width", [37, 61, 99, 100, 127])
def test_a_ramp_keeps_its_place(mode, width):
    ramp = torch.arange(100.0).expand(1, 1, 4, 100)
    resized = resize(ramp, (4, width), mode)[0, 0, 0]
    expected = (torch.arange(width) + 0.5) * 100 / width - 0.5
    inner = slice(width // 10, -width // 10)
    assert (resized - expected)[inner].mean().abs() < 0.02


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(11, 29), (80, 61), (36, 52), (37, 106), (37, 20), (74, 106), (5, 7), (1, 1)])
def test_every_mode_is_that_of_opencv(mode, size):
    # smaller, larger, an unchanged side, whole and broken ratios
    images = torch.rand(2, 3, 37, 53, generator=torch.Generator().manual_seed(0))
    resized = resize(images, size, mode)
    for row, image in zip(resized, images, strict=True):
        expected = cv2.resize(image.permute(1, 2, 0).numpy(), size[::-1], interpolation=OPENCV[mode])
        # OpenCV leaves out slivers of less than a thousandth of a pixel
        np.testing.assert_allclose(row.permute(1, 2, 0), expected, atol=1e-3 if mode == "area" else 2e-5)


def test_area_by_a_whole_factor_is_the_mean_of_cells():
    images = torch.rand(2, 3, 12, 8, generator=torch.Generator().manual_seed(0))
    expected = images.view(2, 3, 4, 3, 4, 2).mean(dim=(3, 5))
    assert torch.allclose(resize(images, (4, 4), "area"), expected, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_the_same_size_changes_nothing(mode):
    images = torch.rand(1, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(resize(images, (5, 7), mode), images)


def test_unknown_modes_are_refused():
    with pytest.raises(ValueError, match="resize mode: got 'lanczos'; expected one of"):
        resize(torch.rand(1, 3, 4, 4), (2, 2), "lanczos")


@pytest.mark.parametrize("size", [(16, 20), (23, 11), (130, 90)])
def test_bicubic_equals_pil_in_floating_point(size):
    image = torch.rand(64, 80, generator=torch.Generator().manual_seed(0))
    expected = np.array(Image.fromarray(image.numpy(), "F").resize(size[::-1], Image.Resampling.BICUBIC))
    np.testing.assert_allclose(resize_bicubic(image[None, None], size)[0, 0], expected, atol=1e-5)


def test_scaled_sizes_are_rounded_down_and_never_empty():
    assert scaled_size((100, 7), 0.299) == (29, 2)
    assert scaled_size((5, 3), 0.15) == (1, 1)
