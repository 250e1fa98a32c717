import random

import numpy as np
import pytest

from ddpm_pairs.data.transforms import NativeCrop, PairedCrop


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


# Pairs


def ramp(height, width, scale):
    """LQ whose pixels tell their row and column, and HQ whose pixels tell those of the LQ pixel they belong to."""
    lq = numbered(height, width)
    hq = np.repeat(np.repeat(lq, scale, 0), scale, 1).copy()
    # In the third channel, which row and column of the block it is.
    hq[..., 2] = np.add.outer(10 * (np.arange(height * scale) % scale), np.arange(width * scale) % scale)
    return hq, lq


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("shape", [(20, 31), (9, 40), (3, 5)])  # larger than the crop, and padded
def test_an_lq_pixel_and_its_hq_block_stay_together(scale, shape):
    crop = PairedCrop(12 * scale, scale, flip=True, rotate=True)
    turns = set()
    for seed in range(60):
        hq, lq = crop(*ramp(*shape, scale), seed)
        assert hq.shape == (12 * scale, 12 * scale, 3) and lq.shape == (12, 12, 3)
        blocks = hq.reshape(12, scale, 12, scale, 3)
        assert (blocks[..., :2] == lq[:, None, :, None, :2]).all()
        turns.add((hq[:scale, :scale, 2].tobytes(), int(np.diff(lq[0, :2, 0].astype(int))[0])))
    if shape == (20, 31) and scale > 1:
        assert len(turns) == 8  # the dihedral group


def test_padding_of_pairs_doubles_the_outermost_pixels():
    hq, lq = ramp(3, 12, 4)
    big, small = PairedCrop(48, 4).centre(hq, lq)
    assert small[:, 0, 0].tolist() == [2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0, 1]
    np.testing.assert_array_equal(big[16:28], hq)
    np.testing.assert_array_equal(big[28:40], hq[::-1])
    np.testing.assert_array_equal(big[4:16], hq[::-1])


def test_pairs_are_cropped_and_turned_uniformly():
    crop = PairedCrop(20, 2, flip=True, rotate=True)
    hq, lq = ramp(14, 12, 2)
    corners = np.array(
        [[out[0, 0, :2], out[0, 1, :2], out[1, 0, :2]] for out in (crop(hq, lq, s)[1] for s in range(1600))]
    )
    ahead = corners[:, 1].astype(int) - corners[:, 0]
    down = corners[:, 2].astype(int) - corners[:, 0]
    turns = np.unique(np.concatenate([ahead, down], 1), axis=0, return_counts=True)[1]
    assert len(turns) == 8 and np.abs(turns - 200).max() < 5 * np.sqrt(1600 * 7 / 64)
    plain = PairedCrop(20, 2)
    tops = np.bincount([int(plain(hq, lq, seed)[1][0, 0, 0]) for seed in range(1000)])
    assert len(tops) == 5 and np.abs(tops - 200).max() < 5 * np.sqrt(1000 * 4 / 25)


def test_a_paired_crop_depends_on_its_seed_alone():
    hq, lq = ramp(30, 30, 2)
    crop = PairedCrop(16, 2, flip=True, rotate=True)
    first = crop(hq, lq, 7)
    crop(hq, lq, 8)
    for again in (crop(hq, lq, 7), PairedCrop(16, 2, flip=True, rotate=True)(hq, lq, 7)):
        np.testing.assert_array_equal(again[0], first[0])


def test_without_flip_and_turn_pairs_stay_upright():
    hq, lq = ramp(30, 30, 2)
    for seed in range(30):
        out = PairedCrop(16, 2)(hq, lq, seed)[1].astype(int)
        assert (np.diff(out[..., 0], axis=0) == 1).all() and (np.diff(out[..., 1], axis=1) == 1).all()


def test_the_centre_of_a_pair():
    hq, lq = ramp(21, 30, 4)
    big, small = PairedCrop(40, 4, flip=True, rotate=True).centre(hq, lq)
    np.testing.assert_array_equal(small, lq[5:15, 10:20])
    np.testing.assert_array_equal(big, hq[20:60, 40:80])
