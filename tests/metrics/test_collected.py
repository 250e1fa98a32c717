"""Scores collected picture by picture: the numbers, and that neither ranks nor order matter."""

import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from evaluated_equal import assert_equal

from ddpm_pairs.metrics.collected import PairedScores
from ddpm_pairs.metrics.evaluated import Collector
from ddpm_pairs.metrics.features import RandomFeatures, extract
from ddpm_pairs.metrics.paired_scores import bootstrap_interval, paired_scores
from ddpm_pairs.metrics.set_scores import set_scores

METRICS = ("psnr", "ssim", "fid", "kid")


def pictures(n):
    """HQ and restored pictures of different sizes, one a batch, with their keys."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for number in range(n):
        hq = torch.randint(30, 220, (1, 3, 40 + 4 * (number % 3), 48), dtype=torch.uint8, generator=generator)
        noise = torch.randint(-9 - number, 10 + number, hq.shape, generator=generator)
        made.append(((hq + noise).to(torch.uint8), hq, [f"straße/{n - number}"]))
    return made


def collect(batches, metrics=METRICS, **options):
    collector = Collector(metrics, "random", **options)
    fill(collector, batches)
    return collector.compute()


def fill(collector, batches):
    for result, hq, keys in batches:
        collector.update(result, hq, hq[..., ::4, ::4], keys)


def test_scores_are_those_of_the_functions():
    batches = pictures(7)
    found = collect(batches)
    single = {key: paired_scores(result, hq) for result, hq, (key,) in batches}
    assert list(found.pictures) == sorted(single)
    for name in ("psnr", "ssim"):
        values = torch.stack([single[key][name][0] for key in sorted(single)]).double()
        assert [one[name] for one in found.pictures.values()] == values.tolist()
        assert found.values[name] == values.mean().item()
        assert found.intervals[name] == bootstrap_interval(values)
    ordered = sorted(batches, key=lambda batch: batch[2])
    sides = [extract(RandomFeatures(), [batch[side] for batch in ordered]) for side in (0, 1)]
    expected = set_scores(*sides)
    for name in ("fid", "fid192", "kid"):
        assert found.values[name] == pytest.approx(getattr(expected, name), rel=1e-6)
    assert found.intervals["kid"] == pytest.approx(expected.kid_interval, rel=1e-6)
    assert found.n == 7


def test_order_does_not_matter_and_a_key_counts_once():
    batches = pictures(6)
    assert_equal(vars(collect([*reversed(batches), batches[2]])), vars(collect(batches)))


def test_batches_of_several_pictures():
    one, two = pictures(4)[0], pictures(4)[3]  # of one size
    together = tuple(torch.cat(parts) for parts in zip(one[:2], two[:2], strict=True))
    batch = (*(part.squeeze() for part in together), [*one[2], *two[2]])
    assert collect([batch], ("psnr",)).pictures == collect([one, two], ("psnr",)).pictures


def test_few_pictures_have_no_fid_but_a_note():
    found = collect(pictures(3))
    assert set(found.values) == {"psnr", "ssim"}
    assert found.notes == dict.fromkeys(("fid", "fid192", "kid"), "fewer than 4 images in a set")


def test_equal_pictures_are_noted_and_left_out_of_the_mean():
    first, second = pictures(2)
    found = collect([(first[1], first[1], ["equal"]), second], ("psnr",))
    assert found.values["psnr"] == found.pictures[second[2][0]]["psnr"]
    assert found.notes["psnr"] == "1 images equal their reference and are excluded from the mean"


def test_what_was_restored_is_scored_too():
    batches = pictures(3)
    found = collect(batches, ("psnr", "fid"), with_inputs=True)
    for _, hq, (key,) in batches:
        image = torch.nn.functional.interpolate(
            hq[..., ::4, ::4].double(), size=hq.shape[2:], mode="bicubic", antialias=True
        )
        before = image.clamp(0, 255).round().to(torch.uint8)
        assert found.inputs[key]["psnr"] == pytest.approx(paired_scores(before, hq)["psnr"].item(), abs=1e-3)
    assert found.input_values == {"psnr": pytest.approx(sum(one["psnr"] for one in found.inputs.values()) / 3)}
    assert found.pictures == collect(batches, ("psnr",)).pictures


def test_without_pictures_and_after_a_reset():
    collector = Collector(METRICS, "random")
    assert collector.compute().values == {}
    fill(collector, pictures(5))
    collector.reset()
    fill(collector, pictures(4))
    assert_equal(vars(collector.compute()), vars(collect(pictures(4))))


def test_what_cannot_be_scored_is_not_taken_in_by_half():
    collector = Collector(METRICS, "random")
    small = torch.zeros(1, 3, 20, 20, dtype=torch.uint8)
    with pytest.raises(ValueError, match="got images of 20x20 px"):
        collector.update(small, small, small, ["small"])
    fill(collector, pictures(4))
    assert_equal(vars(collector.compute()), vars(collect(pictures(4))))


def test_no_state_is_saved():
    metric = PairedScores(["psnr"])
    metric.update(*pictures(1)[0])
    assert metric.state_dict() == {}


def test_unknown_score():
    with pytest.raises(ValueError, match="metrics: got 'fud'; expected some of fid, kid"):
        Collector(["psnr", "fud"])


def share(rank, shares, port, folder):
    """One of two processes."""
    torch.set_num_threads(1)  # a forked process has none of its parent's threads
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    found = [vars(collect([pictures(n)[i] for i in places[rank]])) for n, places in shares]
    torch.save(found, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


SHARES = [
    (7, ([0, 2, 4, 6], [1, 3, 5])),
    (8, ([0, 2, 4, 6], [1, 3, 5, 7])),
    (8, ([7, 0, 1], [6, 5, 4, 3, 2, 7])),  # one of them twice, as a sampler that fills up does
    (7, ([], list(range(7)))),
    (1, ([0], [])),
]


def test_two_ranks_find_what_one_does(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(share, (SHARES, port, str(tmp_path)), nprocs=2, start_method="fork")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    expected = [vars(collect(pictures(n))) for n, _ in SHARES]
    torch.set_num_threads(threads)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        for ours, theirs in zip(found, expected, strict=True):
            assert_equal(ours, theirs)
