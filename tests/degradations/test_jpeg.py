import io

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut
from skimage.metrics import peak_signal_noise_ratio

from ddpm_pairs.degradations.jpeg import jpeg

PHOTO = np.ascontiguousarray(astronaut()[20:276, 100:356])


def libjpeg(photo: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return np.array(Image.open(buffer))


def as_batch(photo: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(photo).permute(2, 0, 1).float().div(255).unsqueeze(0)


def as_photo(row: torch.Tensor) -> np.ndarray:
    return (row * 255).round().byte().permute(1, 2, 0).numpy()


def test_distortion_is_that_of_libjpeg_with_one_quality_a_picture():
    qualities = [10, 30, 50, 70, 95]
    encoded = jpeg(as_batch(PHOTO).expand(5, -1, -1, -1), [float(quality) for quality in qualities])
    for row, quality in zip(encoded, qualities, strict=True):
        reference = libjpeg(PHOTO, quality)
        ours, theirs = (peak_signal_noise_ratio(PHOTO, result) for result in (as_photo(row), reference))
        assert abs(ours - theirs) < 1.5, quality
        # and it is the same distortion, not just as much of it
        assert peak_signal_noise_ratio(reference, as_photo(row)) > theirs + 2, quality


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (16, 17), (33, 8)])
def test_any_size_comes_back_in_range(size):
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    encoded = jpeg(images, [30.0, 94.9])
    assert encoded.shape == images.shape
    assert encoded.isfinite().all() and encoded.min() >= 0 and encoded.max() <= 1
