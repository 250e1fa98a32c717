"""The JPEG of Real-ESRGAN's released code, against its arithmetic written out with SciPy."""

import math

import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn

from ddpm_pairs.degradations import OnHQGrid, RealESRGAN, by_name
from ddpm_pairs.degradations.base import spec_of
from ddpm_pairs.degradations.by_name import build
from ddpm_pairs.degradations.ops.diff_jpeg import diff_jpeg
from ddpm_pairs.degradations.ops.jpeg import CHROMA_TABLE, LUMA_TABLE


def plane(values, table, factor):
    """Quantize the DCT of 8x8 blocks of one centered plane, in double precision."""
    result = np.empty_like(values)
    for top in range(0, values.shape[0], 8):
        for left in range(0, values.shape[1], 8):
            block = np.s_[top : top + 8, left : left + 8]
            steps = np.array(table, np.float64).T * factor
            result[block] = idctn(np.round(dctn(values[block], norm="ortho") / steps) * steps, norm="ortho")
    return result


def reference(image, quality):
    """``image`` (3, H, W) in [0, 1], in double precision."""
    height, width = image.shape[1:]
    padded = np.zeros((3, math.ceil(height / 16) * 16, math.ceil(width / 16) * 16))
    padded[:, :height, :width] = image * 255
    red, green, blue = padded
    factor = (5000 / quality if quality < 50 else 200 - 2 * quality) / 100
    luma = plane(0.299 * red + 0.587 * green + 0.114 * blue - 128, LUMA_TABLE, factor) + 128
    chroma = []
    for full in (
        -0.168736 * red - 0.331264 * green + 0.5 * blue,
        0.5 * red - 0.418688 * green - 0.081312 * blue,
    ):
        half = (full[::2, ::2] + full[1::2, ::2] + full[::2, 1::2] + full[1::2, 1::2]) / 4
        chroma.append(np.kron(plane(half, CHROMA_TABLE, factor), np.ones((2, 2))))
    rgb = np.stack([
        luma + 1.402 * chroma[1],
        luma - 0.344136 * chroma[0] - 0.714136 * chroma[1],
        luma + 1.772 * chroma[0],
    ])  # fmt: skip
    return rgb.clip(0, 255)[:, :height, :width] / 255


@pytest.mark.parametrize("qualities", [(30.0, 95.0), (47.25, 62.5)])
def test_released_arithmetic(photos, qualities):
    images = torch.from_numpy(np.stack([photo[:61, :77] for photo in photos[:2]])).permute(0, 3, 1, 2).float() / 255
    expected = np.stack([reference(*both) for both in zip(images.double().numpy(), qualities, strict=True)])
    found = diff_jpeg(images, qualities).numpy()
    # a coefficient may round to the other side in single precision
    assert np.quantile(np.abs(found - expected), 0.99) < 1e-5
    assert np.abs(found - expected).mean() * 255 < 0.01


def test_real_esrgan_with_the_released_jpeg_keeps_more_fine_chroma(photos):
    hq = torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2).float() / 255

    def fine_chroma(lq):
        difference = lq[:, 0] - lq[:, 1]
        return (difference[..., 1:] - difference[..., :-1]).square().mean().item()

    ours, released = RealESRGAN(2)(hq), RealESRGAN(2, jpeg="released")(hq)
    assert fine_chroma(released) > 1.05 * fine_chroma(ours)


def test_the_default_describes_itself_as_before():
    assert spec_of(by_name("real_esrgan"))["init_args"] == {"scale": 4}
    spec = spec_of(OnHQGrid(RealESRGAN(4, "released")))
    assert spec["init_args"]["degradation"]["init_args"] == {"scale": 4, "jpeg": "released"}
    assert build(spec).degradation.jpeg == "released"
    with pytest.raises(ValueError, match="real_esrgan jpeg: got 'webp'; expected libjpeg or released"):
        RealESRGAN(4, "webp")
