"""Parts of manifests joined by hand."""

import json
import tracemalloc

import pytest
import torch

from ddpm_pairs.cli import main
from ddpm_pairs.data.pictures import Failure
from ddpm_pairs.pairs import PairGenerator
from ddpm_pairs.pairs.folder import PairsFolder
from ddpm_pairs.pairs.merge import Merged, merge
from ddpm_pairs.pairs.verify import verify

PICTURE = torch.arange(48, dtype=torch.uint8).view(3, 4, 4)


def publish(folder, *keys):
    for key in keys:
        folder.publish(PICTURE, PICTURE, {"key": key, "hq": f"hq/{key}.png", "lq": f"lq/{key}.png", "hq_size": [4, 4]})


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
    assert "2 parts joined, 4 pairs, 2 sources without one" in said
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
    """What a run left when it died is a whole folder after a merge, and predict makes the rest."""

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


def test_a_million_lines_are_not_kept_in_memory(tmp_path):
    """Of each line only its place is remembered: a long record costs no more than a short one."""
    folder = PairsFolder(tmp_path)
    publish(folder, "a")
    line = json.loads((tmp_path / "manifest.rank0.jsonl").read_text())
    with (tmp_path / "manifest.rank0.jsonl").open("w") as file:
        for number in range(200):
            file.write(json.dumps(line | {"key": f"{number:04d}", "drawn": "x" * 100_000}) + "\n")
    tracemalloc.start()
    merge(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len((tmp_path / "manifest.jsonl").read_text()) > 20e6
    assert peak < 5e6


@pytest.mark.parametrize("name", ["hq", "x.png"])
def test_folders_without_a_manifest(tmp_path, capsys, name):
    (tmp_path / name).mkdir()
    assert main(["merge", str(tmp_path)]) == 2
    assert "holds no manifest.jsonl" in capsys.readouterr().err
