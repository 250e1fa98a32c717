import random

import numpy as np
import pytest

from ddpm_pairs.data.transforms import NativeCrop


def numbered(height, width):
    """A picture whose pixels tell where they come from: (row, column, 0)."""
    rows, columns = np.mgrid[:height, :width]
    return np.dstack([rows, columns, 0 * rows]).astype(np.uint8)


def test_crops_are_native_pixels(photos):
    crop = NativeCrop(32, flip=True)
    for seed in range(20):
        out = crop(numbered(96, 128), seed)
        rows, columns = out[..., 0].astype(int), out[..., 1].astype(int)
        step = columns[0, 1] - columns[0, 0]
        assert step in (1, -1)
        np.testing.assert_array_equal(rows, rows[0, 0] + np.arange(32)[:, None].repeat(32, 1))
        np.testing.assert_array_equal(columns, columns[0, 0] + step * np.arange(32)[None].repeat(32, 0))
        real = photos[0][rows, columns]
        np.testing.assert_array_equal(crop(photos[0], seed), real)


def test_a_crop_is_a_function_of_picture_and_seed(photos):
    first = NativeCrop(32, flip=True)
    expected = [first(photos[seed % 4], seed).copy() for seed in range(16)]
    np.random.seed(1)
    random.seed(2)
    second = NativeCrop(32, flip=True)
    for seed in reversed(range(16)):
        second(photos[3], seed + 100)
        np.testing.assert_array_equal(second(photos[seed % 4], seed), expected[seed])


def test_places_and_flips_are_uniform_and_independent():
    crop = NativeCrop(10, flip=True)
    outs = np.stack([crop(numbered(18, 14), seed) for seed in range(2000)])
    top, left = outs[:, :, 0, 0].min(1), outs[:, 0, :, 1].min(1)
    flipped = outs[:, 0, 0, 1] > outs[:, 0, 1, 1]
    # Counts are binomial; five standard deviations either way.
    for counts, share in [(np.bincount(top), 1 / 9), (np.bincount(left), 1 / 5), (np.bincount(flipped), 1 / 2)]:
        assert len(counts) == round(1 / share)
        assert np.abs(counts - 2000 * share).max() < 5 * np.sqrt(2000 * share * (1 - share))
    correlations = np.corrcoef([top, left, flipped]) - np.eye(3)
    assert np.abs(correlations).max() < 5 / np.sqrt(2000)


def test_without_flip_none_is_mirrored():
    crop = NativeCrop(10)
    assert all(np.all(np.diff(crop(numbered(18, 14), seed)[0, :, 1].astype(int)) == 1) for seed in range(50))


@pytest.mark.parametrize("shape", [(16, 17), (40, 64), (64, 20), (63, 200)])
def test_small_pictures_are_padded_by_reflection(shape):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (*shape, 3), np.uint8)
    short = [max(0, 64 - length) for length in shape]
    padded = np.pad(picture, [*((s // 2, s - s // 2) for s in short), (0, 0)], mode="reflect")
    out = NativeCrop(64)(picture, 5)
    assert out.shape == (64, 64, 3)
    lefts = range(padded.shape[1] - 63)
    assert any(np.array_equal(out, padded[:64, left : left + 64]) for left in lefts)


def test_center_crop():
    outs = [NativeCrop(10, center_crop=20)(numbered(50, 31), seed) for seed in range(200)]
    rows, columns = np.stack(outs)[..., 0], np.stack(outs)[..., 1]
    assert (rows.min(), rows.max()) == (15, 34)
    assert (columns.min(), columns.max()) == (5, 24)


def test_center_crop_of_a_smaller_picture_is_the_picture():
    picture = numbered(30, 18)
    np.testing.assert_array_equal(NativeCrop(16, center_crop=100)(picture, 3), NativeCrop(16)(picture, 3))
