"""Batches by canvas and length of the walk, and how well they fill the network, which a counting network confirms."""

import numpy as np
import pytest
from PIL import Image
from tiny_ddpm import tiny_denoiser

from ddpm_pairs.data import HighQualityImages
from ddpm_pairs.degradations.walk import draw_t
from ddpm_pairs.synthesis import PairGenerator
from ddpm_pairs.synthesis.batching import plan_batches, unfinished


@pytest.fixture
def pictures(tmp_path, photos):
    """Thirteen pictures of 64 x 64, three of 64 x 96, and one that is cut into tiles of 64 LQ px."""
    root = tmp_path / "many"
    root.mkdir()
    wide = np.tile(photos[0][:64, :64], (1, 10, 1))
    for number in range(17):
        photo = wide if number == 16 else photos[number % 4][:64, : 64 if number < 13 else 96]
        Image.fromarray(photo).save(root / f"{number:02}.png")
    data = HighQualityImages(str(root))
    data.find()
    return data.pictures


def exact(**options):
    generator = PairGenerator("bicubic", **{"t_max": 30, "mode": "exact", "slots": 4, "threads": 1} | options)
    generator.denoiser = tiny_denoiser()
    return generator


def test_longest_walks_come_first_within_a_canvas(pictures):
    generator = exact(tile=64)
    batches = plan_batches(pictures[::-1], generator).batches
    assert sorted(one.key for batch in batches for one in batch) == [f"{n:02}" for n in range(17)]
    assert [len(batch) for batch in batches] == [4, 4, 4, 1, 3, 1]  # square, then wide, then the large one
    assert {one.key for one in batches[4]} == {"13", "14", "15"} and batches[5][0].key == "16"
    ts = [[draw_t(0, one.key, 0, 30) for one in batch] for batch in batches]
    square = [t for batch in ts[:4] for t in batch]
    assert square == sorted(square, reverse=True) and ts[4] == sorted(ts[4], reverse=True)
    assert len(set(square)) > 6


@pytest.mark.parametrize(
    "options", [{"tile": 64, "t_max": 9}, {"mode": "fast", "t_min": 2, "t_max": 12}, {"t_min": 0, "t_max": 0}]
)
def test_occupancy_is_that_of_the_rows_that_go_through_the_network(pictures, options, photos):
    generator = exact(**options)
    batches, failures, occupancy = plan_batches(unfinished(pictures, 2, ()), generator)
    assert failures == []
    rows = []
    generator.denoiser.register_forward_hook(lambda module, arguments, output: rows.append(len(arguments[0])))
    used, data = 0, HighQualityImages("", num_workers=0)
    data.schedule(batches)
    for batch in data.predict_dataloader():
        pairs, _ = generator.predict_step(batch, 0)
        # the large picture has 160 LQ px a line, in three tiles of 64
        used += sum(pair.record["evaluations"] * (3 if pair.record["tile"] else 1) for pair in pairs)
    assert set(rows) <= {4}
    assert occupancy == (pytest.approx(used / sum(rows)) if rows else None)
    if rows:
        assert used < sum(rows)


def test_sorting_fills_the_slots_of_long_walks(pictures):
    """The same pictures in the order of their keys, as a plan without regard to t would have them."""
    generator = exact(t_max=60)
    squares = pictures[:12]
    ts = [draw_t(0, one.key, 0, 60) for one in squares]
    in_order = sum(ts) / sum(4 * max(ts[first : first + 4]) for first in (0, 4, 8))
    ts.sort()
    best = sum(ts) / sum(4 * max(ts[first : first + 4]) for first in (0, 4, 8))
    assert plan_batches(squares, generator).occupancy == pytest.approx(best) and best > in_order + 0.1


def test_no_network_no_occupancy(pictures):
    assert plan_batches(pictures, PairGenerator("bicubic", t_max=0)).occupancy is None
    assert plan_batches([], exact()).occupancy is None
