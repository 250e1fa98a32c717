"""Joining the parts of a manifest with ``merge``."""

import json
import math
import tracemalloc

import pytest
import torch

from ddpm_pairs.cli.main import main
from ddpm_pairs.data import HighQualityImages
from ddpm_pairs.images.find import Failure
from ddpm_pairs.pairset.folder import PairsFolder, Summary, joined_at
from ddpm_pairs.pairset.merge import Merged, merge
from ddpm_pairs.pairset.verify import verify
from ddpm_pairs.synthesis import PairGenerator
from ddpm_pairs.synthesis.planning import check_sources

PICTURE = torch.arange(48, dtype=torch.uint8).view(3, 4, 4)


def publish(folder, *keys):
    for key in keys:
        record = {"key": key, "hq": f"hq/{key}.png", "lq": f"lq/{key}.png", "hq_size": [4, 4]}
        folder.append(folder.store(PICTURE, PICTURE, record))


def test_parts_of_two_ranks(tmp_path, capsys):
    first, second = PairsFolder(tmp_path, 0), PairsFolder(tmp_path, 1)
    publish(first, "b", "sub/a")
    publish(second, "é", "a", "B")
    second.report([Failure("x.txt", "not a picture")])
    first.report([Failure("c.png", "broken")])
    with (tmp_path / "manifest.rank1.jsonl").open("ab") as file:
        file.write(b'{"key": "torn')
    (tmp_path / "lq" / "b.png").unlink()
    (tmp_path / "hq" / ".0123456789abcdef.1.tmp").write_bytes(b"half")
    assert main(["merge", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "2 parts joined, 4 pairs, 2 failed sources" in said
    assert "1 broken lines" in said and "1 pairs without both files" in said
    keys = [json.loads(line)["key"] for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    assert keys == ["B", "a", "sub/a", "é"]
    assert (tmp_path / "meta_info.txt").read_text() == "".join(f"hq/{key}.png, lq/{key}.png\n" for key in keys)
    failures = [json.loads(line)["source"] for line in (tmp_path / "failures.jsonl").read_text().splitlines()]
    assert failures == ["c.png", "x.txt"]
    assert not list(tmp_path.rglob("*.tmp")) and not list(tmp_path.glob("*.rank*"))


def test_a_finished_folder_stays_as_it_is(hq_folder, tmp_path, predict, content):
    (hq_folder / "notes.txt").write_text("not a picture")
    predict(PairGenerator("bicubic", t_max=0, slots=4, threads=1), hq_folder, tmp_path / "pairs")
    whole = content(tmp_path / "pairs")
    assert merge(tmp_path / "pairs") == Merged(parts=0, pairs=7, broken=0, incomplete=0, failures=1)
    assert content(tmp_path / "pairs") == whole


def test_merged_in_the_middle_and_gone_on_with(hq_folder, tmp_path, predict, content):
    """A merge turns the output of a killed run into an intact folder, and predict makes the remaining pairs."""

    def run(out):
        return predict(PairGenerator("bicubic", t_max=0, slots=4, threads=1), hq_folder, out)

    out = tmp_path / "pairs"
    run(out)
    whole = content(out)
    lines = (out / "manifest.jsonl").read_bytes().splitlines(keepends=True)
    for name in ("manifest.jsonl", "meta_info.txt", "failures.jsonl"):
        (out / name).unlink()
    (out / "manifest.rank0.jsonl").write_bytes(lines[4] + lines[1])
    (out / "manifest.rank1.jsonl").write_bytes(lines[3])
    for line in (lines[n] for n in (0, 2, 5, 6)):
        for kind in ("hq", "lq"):
            (out / json.loads(line)[kind]).unlink()
    assert merge(out) == Merged(parts=2, pairs=3, broken=0, incomplete=0, failures=0)
    assert verify(out).damages == []
    assert run(out)["made"] == 4
    assert content(out) == whole


@pytest.fixture
def long_lines(tmp_path):
    """200 lines of 100 kB each, whose pairs have their files."""
    root = tmp_path / "pairs"
    publish(PairsFolder(root), "a")
    line = json.loads((root / "manifest.rank0.jsonl").read_text())
    line |= {"psnr": 20.0, "psnr_initial": None, "t": 3, "evaluations": 2, "accepted": True, "source_sha256": "0" * 64}
    with (root / "manifest.rank0.jsonl").open("w") as file:
        for number in range(200):
            file.write(json.dumps(line | {"key": f"{number:04d}", "drawn": "x" * 100_000}) + "\n")
    return root


def peak_of(work):
    """Return the peak of allocated bytes."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_million_lines_are_not_kept_in_memory(long_lines):
    """Only the position of each line is kept, so a long record takes no more memory than a short one."""
    assert peak_of(lambda: merge(long_lines)) < 5e6
    assert len((long_lines / "manifest.jsonl").read_text()) > 20e6


def test_nor_where_they_are_read(long_lines, hq_folder):
    folder, found = PairsFolder(long_lines), {}
    data = HighQualityImages(str(hq_folder))
    data.find()
    (long_lines / "run.yaml").write_text(
        "{settings: {preset: natural, degradation: {name: bicubic}, tile: 1}, machine: {}, places: {hq_dir: elsewhere}}"
    )
    reading = {
        "keys": folder.keys,
        "records": lambda: sum(record["t"] for record in folder.records()),
        "record": lambda: folder.record("0150")["key"],
        "folder": lambda: Summary(folder.joined()),
        "sheet": lambda: [record["key"] for record in joined_at(long_lines, [0, 100, 199])],
        "sources": lambda: check_sources(folder, {"places": {"hq_dir": "elsewhere"}}, data, 1),
    }
    merge(long_lines)
    for name, read in reading.items():
        assert peak_of(lambda name=name, read=read: found.update({name: read()})) < 3e6, name
    assert (len(found["keys"]), found["records"], found["record"]) == (200, 600, "0150")
    assert found["sheet"] == ["0000", "0100", "0199"]
    folder = found["folder"]
    assert (folder.pairs, folder.accepted, folder.t, folder.evaluations) == (200, 200, 600, 400)
    assert list(folder.psnr) == [20.0] * 200 and list(folder.psnr_initial) == [math.inf] * 200


@pytest.mark.parametrize("name", ["hq", "x.png"])
def test_folders_without_a_manifest(tmp_path, capsys, name):
    (tmp_path / name).mkdir()
    assert main(["merge", str(tmp_path)]) == 2
    assert "contains no manifest.jsonl" in capsys.readouterr().err
