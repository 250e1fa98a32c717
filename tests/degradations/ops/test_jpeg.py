import io

import numpy as np
import pytest
import torch
from kornia.enhance import jpeg_codec_differentiable
from PIL import Image
from skimage.data import astronaut
from skimage.metrics import peak_signal_noise_ratio

from ddpm_pairs.degradations.ops.jpeg import jpeg

PHOTO = np.ascontiguousarray(astronaut()[20:276, 100:356])


def libjpeg(photo: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return np.array(Image.open(buffer))


def as_batch(photo: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(photo).permute(2, 0, 1).float().div(255).unsqueeze(0)


def as_photo(row: torch.Tensor) -> np.ndarray:
    return (row * 255).round().byte().permute(1, 2, 0).numpy()


@pytest.mark.parametrize("size", [(256, 256), (250, 201), (40, 33)])
def test_output_is_that_of_libjpeg(size):
    photo = np.ascontiguousarray(PHOTO[: size[0], : size[1]])
    for quality in (5, 10, 30, 50, 75, 90, 95, 100):
        ours = as_photo(jpeg(as_batch(photo), [float(quality)])[0])
        # what is left comes of its transform in whole numbers: single levels, and now and then a coefficient
        assert peak_signal_noise_ratio(libjpeg(photo, quality), ours) > 44, quality


def test_output_is_about_that_of_kornia():
    qualities = [10.0, 50.0, 90.0]
    images = as_batch(PHOTO).expand(3, -1, -1, -1)
    theirs = jpeg_codec_differentiable(images, torch.tensor(qualities))
    for ours, other in zip(jpeg(images, qualities), theirs, strict=True):
        assert peak_signal_noise_ratio(as_photo(other), as_photo(ours)) > 36


@pytest.mark.parametrize("quality", [5.0, 30.0, 60.0, 75.0, 95.0])
def test_gray_stays_gray(quality):
    gray = as_batch(PHOTO).mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    red, green, blue = jpeg(gray, [quality]).unbind(1)
    assert (red - green).abs().max() < 1e-5
    assert (blue - green).abs().max() < 1e-5


def test_distortion_is_that_of_libjpeg_with_one_quality_a_picture():
    qualities = [10, 30, 50, 70, 95]
    encoded = jpeg(as_batch(PHOTO).expand(5, -1, -1, -1), [float(quality) for quality in qualities])
    for row, quality in zip(encoded, qualities, strict=True):
        reference = libjpeg(PHOTO, quality)
        ours, theirs = (peak_signal_noise_ratio(PHOTO, result) for result in (as_photo(row), reference))
        assert abs(ours - theirs) < 0.2, quality
        # and it is the same distortion, not just as much of it
        assert peak_signal_noise_ratio(reference, as_photo(row)) > theirs + 2, quality


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (16, 17), (33, 8)])
@pytest.mark.parametrize("extreme", [0.0, 1.0, None])
def test_any_size_and_content_comes_back_in_range(size, extreme):
    images = torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(0))
    if extreme is not None:
        images.fill_(extreme)
    encoded = jpeg(images, [1.0, 94.9, 100.0])
    assert encoded.shape == images.shape
    assert encoded.isfinite().all() and encoded.min() >= 0 and encoded.max() <= 1


@pytest.mark.parametrize(("count", "side"), [(3, 200), (8, 72), (16, 48)])
def test_rows_do_not_depend_on_their_neighbours(count, side):
    generator = torch.Generator().manual_seed(3)
    images, qualities = torch.rand(count, 3, side, side, generator=generator), [30.0 + 4 * n for n in range(count)]
    encoded, untouched = jpeg(images, qualities), images.clone()
    order = torch.randperm(count, generator=generator).tolist()
    assert torch.equal(jpeg(images[order], [qualities[n] for n in order]), encoded[order])
    others = torch.rand(images.shape, generator=generator)
    others[1] = images[1]
    assert torch.equal(jpeg(others, [50.0, qualities[1], *[90.0] * (count - 2)])[1], encoded[1])
    assert torch.equal(images, untouched)
