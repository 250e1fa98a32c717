"""A process killed at any event in the output folder leaves what the same command brings to the same end."""

import itertools
import json
import os
import shutil
import sys
from hashlib import sha256

import pytest
from forked_child import in_child
from PIL import Image

from ddpm_pairs.pairs import PairGenerator

WATCHED = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link"}


def die_at(step, root):
    """Let this process die, as by kill -9, at the n-th step of its work below `root`.

    Every change of the folder is a step, just before it; opening a file to write is two, the second in the middle of
    writing.
    """
    prefix, steps = os.fspath(root), itertools.count(1)

    def watch(event, arguments):
        if event not in WATCHED or not isinstance(arguments[0], (str, os.PathLike)):
            return
        path = os.fspath(arguments[0])
        if not path.startswith(prefix):
            return
        if event != "open":
            if next(steps) == step:
                os._exit(9)
        elif arguments[2] & (os.O_WRONLY | os.O_RDWR):
            if next(steps) == step:
                os._exit(9)
            if next(steps) == step:
                os.write(os.open(path, arguments[2] | os.O_CREAT, 0o644), b'{"key": "half')
                os._exit(9)

    sys.addaudithook(watch)


def whole_pairs(root):
    """Keys whose line a dead run left; pictures in their place are whole, and no line lacks its files."""
    for kind in ("hq", "lq"):
        for path in (root / kind).rglob("*.png"):
            Image.open(path).load()
    keys = set()
    for path in root.glob("manifest*.jsonl"):
        for line in path.read_text().splitlines():
            if line.endswith("}"):
                record = json.loads(line)
                assert (root / record["hq"]).is_file()
                assert sha256((root / record["lq"]).read_bytes()).hexdigest() == record["lq_sha256"]
                keys.add(record["key"])
    return keys


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
        if killed % 2 == 0:  # the second attempt is killed as well
            assert attempt(2 + killed % 9) == 9
            assert there <= whole_pairs(out)
        run(out)
        assert content(out) == whole, f"killed at step {killed}"
        most |= there
        shutil.rmtree(out)
    assert content(out) == whole
    # Folders, two pairs of two files and a line, run.yaml, failures, manifest, meta_info: all were steps to die at.
    assert killed >= 35 and most == {"e", "sub/c"}


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
    # A line that lacks nothing but its line break is whole.
    assert run(out)["made"] == (2 if cut == -1 else 3)
    assert content(out) == whole
