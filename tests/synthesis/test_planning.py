"""Batches by canvas size and walk length, and their slot occupancy, confirmed by a counting network."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_ddpm import tiny_denoiser

from ddpm_pairs.data import HighQualityImages
from ddpm_pairs.data.high_quality import Work
from ddpm_pairs.images.find import Picture
from ddpm_pairs.synthesis import PairGenerator
from ddpm_pairs.synthesis.planning import plan


@pytest.fixture
def pictures(tmp_path, photos):
    """Thirteen images of 64 x 64, three of 64 x 96, and one that is split into tiles of 64 LQ px."""
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
    generator.add_walk(tiny_denoiser())
    return generator


def arranged(pictures, generator):
    """Return what a single rank would load, window by window."""
    batches = plan(pictures, generator).batches
    return [batch for first in range(0, len(batches), 8) for batch in generator.arrange(batches[first : first + 8])]


def test_longest_walks_come_first_within_a_canvas(pictures):
    generator = exact(tile=64)
    batches = arranged(pictures[::-1], generator)
    assert sorted(one.key for batch in batches for one in batch) == [f"{n:02}" for n in range(17)]
    assert [len(batch) for batch in batches] == [4, 4, 4, 1, 3, 1]  # square, then wide, then the large one
    assert [len(batch) for batch in plan(pictures, generator).batches] == [4, 4, 4, 1, 3, 1]
    assert {one.key for one in batches[4]} == {"13", "14", "15"} and batches[5][0].key == "16"
    ts = [[one.parameters["t"] for one in batch] for batch in batches]
    square = [t for batch in ts[:4] for t in batch]
    assert square == sorted(square, reverse=True) and ts[4] == sorted(ts[4], reverse=True)
    assert len(set(square)) > 6
    assert all(one.facts["evaluations"] == one.parameters["t"] for batch in batches for one in batch)


def test_every_image_is_drawn_once_and_just_before_it_is_loaded(pictures, monkeypatch):
    generator, drawn = exact(), []
    draw = generator.walk.draw
    monkeypatch.setattr(generator.walk, "draw", lambda one: drawn.append(None) or draw(one))
    data = HighQualityImages("", num_workers=0)
    data.schedule(plan(pictures * 6, generator).batches, generator.arrange)  # keys do not matter here
    assert not drawn
    made, loader = 0, iter(data.predict_dataloader())
    for batch in loader:
        assert len(drawn) <= made + 2 * 8 * 4  # one window, not a million images
        made += len(list(generator.predict_step(batch, 0)[0]))
    assert made == len(drawn) == 6 * 17


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_all_batches(pictures, world_size):
    generator = exact(tile=64)
    batches = plan(pictures, generator).batches
    keys = []
    for rank in range(world_size):
        share = batches[rank::world_size]
        found = generator.arrange(share)
        assert len(found) == len(share)  # the loader knows its length in advance
        keys += [one.key for batch in found for one in batch]
    assert sorted(keys) == [f"{n:02}" for n in range(17)]


@pytest.mark.parametrize(
    "options", [{"tile": 64, "t_max": 9}, {"mode": "fast", "t_min": 2, "t_max": 12}, {"t_min": 0, "t_max": 0}]
)
def test_occupancy_is_that_of_the_rows_that_go_through_the_network(pictures, options, photos):
    generator = exact(variants=2, **options)
    batches, failures = plan(pictures, generator)
    assert failures == [] and generator.occupancy is None
    rows = []
    network = generator.walk.running(torch.device("cpu"))
    network.register_forward_hook(lambda module, arguments, output: rows.append(len(arguments[0])))
    used, data = 0, HighQualityImages("", num_workers=0)
    data.schedule(batches, generator.arrange)
    for batch in data.predict_dataloader():
        pairs, _ = generator.predict_step(batch, 0)
        # the large image has 160 LQ px per row, in three tiles of 64
        used += sum(pair.record["evaluations"] * (3 if pair.record["tile"] else 1) for pair in pairs)
    assert set(rows) <= {4}
    assert generator.occupancy == (pytest.approx(used / sum(rows)) if rows else None)
    if rows:
        assert used < sum(rows)


def test_sorting_fills_the_slots_of_long_walks(pictures):
    """Compare with the same images in key order, as a plan that ignores t would batch them."""
    ts = [[one.parameters["t"] for one in batch] for batch in arranged(pictures[:12], exact(t_max=60))]
    together = sum(map(sum, ts)) / sum(4 * max(batch) for batch in ts)
    drawn = exact(t_max=60)
    in_order = [drawn.draw(Work(one.key, one.source)).parameters["t"] for one in pictures[:12]]
    apart = sum(in_order) / sum(4 * max(in_order[first : first + 4]) for first in (0, 4, 8))
    assert sorted(in_order) == sorted(t for batch in ts for t in batch) and together > apart + 0.1


def test_names_that_do_not_fit_and_images_that_cannot_be_read(pictures, tmp_path):
    (tmp_path / "broken.png").write_text("no picture")
    broken = Picture("broken", tmp_path / "broken.png", "broken.png")
    long = replace(pictures[0], key="x" * 251)  # the longest possible name with .png; the name of its variant is longer
    batches, failures = plan([broken, long], exact(variants=2), (), tmp_path / "pairs")
    assert [[one.key for one in batch] for batch in batches] == [["x" * 251]]
    assert sorted(one.source for one in failures) == sorted(["broken.png", pictures[0].source])


def test_what_is_done_is_not_planned(pictures):
    done = {"00", "00~1", "01~1", *(f"{n:02}{v}" for n in range(2, 17) for v in ("", "~1"))}
    batches, _ = plan(pictures, exact(variants=2), done)
    assert [[one.key for one in batch] for batch in batches] == [["01"]]
