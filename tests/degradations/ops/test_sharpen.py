import cv2
import numpy as np
import torch
from degradation_records import crops

from ddpm_pairs.degradations.ops.sharpen import unsharp_mask


def with_opencv(image: np.ndarray) -> np.ndarray:
    """OpenCV's own rule for the width of a 51 px Gaussian, on one (H, W, 3) picture."""
    residual = image - cv2.GaussianBlur(image, (51, 51), 0)
    mask = (np.abs(residual) * 255 > 10).astype(np.float32)
    soft = cv2.GaussianBlur(mask, (51, 51), 0)
    return soft * np.clip(image + 0.5 * residual, 0, 1) + (1 - soft) * image


def test_equals_opencv():
    images = crops(3, 120, 90)
    sharpened = unsharp_mask(images)
    for row, image in zip(sharpened, images, strict=True):
        expected = with_opencv(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
        # a residual that equals the threshold to seven digits may fall on either side of it
        difference = np.abs(row.permute(1, 2, 0).numpy() - expected)
        assert np.quantile(difference, 0.99) < 1e-5 and difference.max() < 1e-3
    assert (sharpened - images).abs().max() > 0.05


def test_faint_noise_is_left_alone_and_edges_stay_in_range():
    faint = 0.5 + 4 / 255 * torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).clamp(-2, 2)
    assert torch.equal(unsharp_mask(faint), faint)
    step = torch.zeros(1, 3, 64, 64)
    step[..., 32:] = 1
    sharpened = unsharp_mask(step)
    assert sharpened.min() >= 0 and sharpened.max() <= 1


def test_small_pictures_and_neighbours():
    assert unsharp_mask(torch.rand(2, 3, 5, 1)).shape == (2, 3, 5, 1)
    images = crops(4, 64, 48)
    assert torch.equal(unsharp_mask(images.flip(0)).flip(0), unsharp_mask(images))
