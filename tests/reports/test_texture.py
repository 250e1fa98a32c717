import math

import pytest
import torch

from ddpm_pairs.metrics.texture import band_names
from ddpm_pairs.reports.texture import render, texture_gap


def gray_noise(count, height, width, std, seed):
    """uint8 pictures of white luminance noise around mid-gray, ``std`` in 8-bit units."""
    generator = torch.Generator().manual_seed(seed)
    fields = torch.randn(count, 1, height, width, generator=generator) * std + 128
    return list(fields.expand(-1, 3, -1, -1).round().clamp(0, 255).to(torch.uint8))


def chroma_noise_pictures(count, std, seed):
    """White noise of ``std`` in Cb and in Cr at constant luminance."""
    generator = torch.Generator().manual_seed(seed)
    cb, cr = torch.randn(2, count, 64, 64, generator=generator) * std
    rgb = torch.stack((1.402 * cr, -0.344136 * cb - 0.714136 * cr, 1.772 * cb), dim=1) + 128
    return list(rgb.round().clamp(0, 255).to(torch.uint8))


def test_gaps_of_white_noise():
    real = gray_noise(40, 64, 64, 8, 0)
    gap = texture_gap(real, {"double": gray_noise(40, 64, 64, 16, 1), "same": gray_noise(40, 64, 64, 8, 2)}, seed=0)
    double, same = gap.rows
    assert (double.name, same.name) == ("double", "same")
    assert double.power_gaps == pytest.approx([10 * math.log10(4)] * 4, abs=0.5)
    assert double.power_gaps[-1] == pytest.approx(10 * math.log10(4), abs=0.05)  # most bins, least scatter
    assert same.power_gaps[-1] == pytest.approx(0, abs=0.05)
    assert gap.floor.power_gaps[-1] == pytest.approx(0, abs=0.1)
    assert (gap.patches, gap.side) == (20, 64)  # as many as half of the real ones give


def test_chroma_noise_in_8_bit_units():
    gap = texture_gap(chroma_noise_pictures(8, 3, 0), {"more": chroma_noise_pictures(8, 7, 1)}, seed=0)
    (more,) = gap.rows
    assert gap.real_chroma_noise == pytest.approx(3, rel=0.05)
    assert more.chroma_noise == pytest.approx(7, rel=0.05)
    assert more.chroma_gap == pytest.approx(4, abs=0.2)
    assert gap.floor.chroma_gap == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize(("height", "width", "side", "patches"), [(64, 130, 64, 4), (40, 70, 32, 4), (17, 40, 16, 4)])
def test_patches_are_as_large_as_the_smallest_picture_lets_them(height, width, side, patches):
    gap = texture_gap(gray_noise(4, 70, 70, 8, 0) * 8, {"set": gray_noise(2, height, width, 8, 1)})
    assert (gap.side, gap.patches) == (side, patches)
    assert len(gap.rows[0].power_gaps) == {64: 4, 32: 3, 16: 2}[side]


def test_halves_are_disjoint_and_the_seed_decides():
    # one loud picture is in one half only, so that the halves must differ
    real = gray_noise(5, 64, 64, 4, 0) + gray_noise(1, 64, 64, 60, 1)
    first = texture_gap(real, {"set": real}, seed=0)
    assert abs(first.floor.power_gaps[-1]) > 10
    assert first == texture_gap(real, {"set": real}, seed=0)
    assert first.rows[0].power_gaps == pytest.approx([0] * 4, abs=20)


def test_a_single_real_picture_has_no_floor():
    gap = texture_gap(gray_noise(1, 64, 64, 8, 0), {"set": gray_noise(3, 64, 64, 8, 1)})
    assert gap.floor is None and gap.patches == 1
    assert "real vs. real" not in render(gap)


def test_what_cannot_be_compared_is_said():
    with pytest.raises(ValueError, match="got no images in the set 'set'"):
        texture_gap(gray_noise(2, 64, 64, 8, 0), {"set": []})
    with pytest.raises(ValueError, match="got an image with a side of 12 px in the set 'set'"):
        texture_gap(gray_noise(2, 64, 64, 8, 0), {"set": gray_noise(1, 64, 12, 8, 0)})


def test_rendered_table():
    gap = texture_gap(gray_noise(4, 64, 64, 8, 0), {"initial LQ": gray_noise(4, 64, 64, 16, 1)}, seed=0)
    text = render(gap, "camera")
    lines = text.splitlines()
    assert all(len(line) <= 100 for line in lines)
    assert lines[1].split()[-4:] == band_names(4) == ["1/32-1/16", "1/16-1/8", "1/8-1/4", "1/4-1/2"]
    row = next(line for line in lines if line.startswith("initial LQ"))
    assert row.split()[-1] == f"{gap.rows[0].power_gaps[-1]:+.2f}"
    assert f"({gap.rows[0].chroma_gap:+.2f})" in row
    assert any(line.startswith("real vs. real") for line in lines)
    assert lines[-1].startswith("2 native patches of 64 px")
