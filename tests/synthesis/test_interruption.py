"""If a process is killed at any event in the output folder, rerunning the command gives the same result."""

import os
import shutil
import socket

import lightning as L
import pytest
from dying import die_at, whole_pairs
from forked_child import in_child, in_children

from ddpm_pairs.data import HighQualityImages
from ddpm_pairs.synthesis import PairGenerator, PairWriter


@pytest.mark.slow
def test_killed_at_every_step_and_resumed(hq_folder, tmp_path, predict, content):
    for key in ("B", "a", "b", "d", "é"):
        (hq_folder / f"{key}.png").unlink()
    (hq_folder / "notes.txt").write_text("not a picture")
    (hq_folder / "broken.png").write_bytes((hq_folder / "e.png").read_bytes()[:300])

    def run(out):
        predict(PairGenerator("bicubic", t_max=0, slots=4, threads=1), hq_folder, out)

    run(tmp_path / "unbroken")
    whole = content(tmp_path / "unbroken")
    assert len(whole) == 7  # two pairs, manifest, meta_info, failures

    killed, out, most = 0, tmp_path / "pairs", set()
    while True:

        def attempt(step):
            def work():
                die_at(step, out)
                run(out)

            return in_child(work)

        status = attempt(killed + 1)
        if status == 0:
            break
        assert status == 9
        killed += 1
        there = whole_pairs(out)
        if killed % 4 == 0:  # the second attempt is killed, too
            assert attempt(2 + killed % 9) == 9
            assert there <= whole_pairs(out)
        run(out)
        assert content(out) == whole, f"killed at step {killed}"
        most |= there
        shutil.rmtree(out)
    assert content(out) == whole
    # Folders, two pairs of two files and a line, run.yaml, failures, manifest, meta_info: the run was killed at each.
    assert killed >= 35 and most == {"e", "sub/c"}


def predict_as_rank(rank, port, hq, out):
    """Run as one of two processes started by torchrun."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "1"}
    trainer = L.Trainer(
        accelerator="cpu", devices=2, strategy="ddp", callbacks=[PairWriter(str(out))],
        logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        use_distributed_sampler=False,
    )  # fmt: skip
    data = HighQualityImages(str(hq), num_workers=0)
    trainer.predict(PairGenerator("bicubic", t_max=0, slots=4, threads=1), data, return_predictions=False)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_one_of_two_ranks_killed_at_every_step_and_resumed(hq_folder, tmp_path, predict, content):
    """The other rank is stopped as by torchrun; the next run has one or two ranks."""
    for key in ("b", "d", "é"):
        (hq_folder / f"{key}.png").unlink()  # this leaves three canvas sizes: two batches for rank 0, one for rank 1
    (hq_folder / "broken.png").write_bytes((hq_folder / "e.png").read_bytes()[:300])

    def alone(out):
        predict(PairGenerator("bicubic", t_max=0, slots=4, threads=1), hq_folder, out)

    def both(out, dying=None, step=0):
        port = free_port()

        def work(rank):
            if rank == dying:
                die_at(step, out)
            predict_as_rank(rank, port, hq_folder, out)

        return in_children([lambda: work(0), lambda: work(1)])

    alone(tmp_path / "unbroken")
    whole = content(tmp_path / "unbroken")
    assert len(whole) == 11  # four pairs, manifest, meta_info, failures
    assert both(tmp_path / "two") == [0, 0] and content(tmp_path / "two") == whole

    most = set()
    for dying in (0, 1):
        killed, out = 0, tmp_path / "pairs"
        while True:
            statuses = both(out, dying, killed + 1)
            if statuses == [0, 0]:
                break
            assert statuses[dying] == 9
            killed += 1
            most |= whole_pairs(out)
            if killed % 2:
                alone(out)
            else:
                assert both(out) == [0, 0]
            assert content(out) == whole, f"rank {dying} killed at step {killed}"
            shutil.rmtree(out, ignore_errors=True)
        assert content(out) == whole
        shutil.rmtree(out)
        assert killed >= (45, 12)[dying]
    assert most == {"B", "a", "e", "sub/c"}


@pytest.mark.parametrize("cut", [1, 40, -1])
def test_torn_last_line_is_made_again(hq_folder, tmp_path, predict, content, cut):
    """The manifest part of a killed rank ends in the middle of a line."""

    def run(out):
        return predict(PairGenerator("bicubic", t_max=0, slots=4, threads=1), hq_folder, out)

    out = tmp_path / "pairs"
    run(out)
    whole = content(out)
    lines = (out / "manifest.jsonl").read_bytes().splitlines(keepends=True)
    (out / "manifest.jsonl").unlink()
    (out / "manifest.rank0.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:cut])
    (out / "manifest.rank1.jsonl").write_bytes(lines[4])
    (out / "hq" / "a.png.0.tmp").write_bytes(b"half a picture")
    (out / "failures.rank1.jsonl").write_bytes(b'{"source": "x')
    # A line that lacks only its line break is complete.
    assert run(out)["made"] == (2 if cut == -1 else 3)
    assert content(out) == whole
