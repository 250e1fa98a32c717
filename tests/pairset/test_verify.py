"""Verifying a pairs folder byte by byte, repairing it, and completing it with predict."""

import json
import os
import re
import shutil
from hashlib import sha256

import numpy as np
import pytest
from forked_child import give_up_rights, in_child, linux_only
from PIL import Image

from ddpm_pairs import run_folder as lock_module
from ddpm_pairs.cli.main import main
from ddpm_pairs.data import HighQualityImages
from ddpm_pairs.pairset.verify import verify
from ddpm_pairs.run_folder import FolderLock
from ddpm_pairs.synthesis import PairGenerator, PairWriter


@pytest.fixture
def run(hq_folder, predict):
    """Predict into a folder; resume if it exists."""

    def make(out):
        return predict(PairGenerator("bicubic", t_max=0, slots=4, threads=1), hq_folder, out)

    return make


@pytest.fixture
def pairs(tmp_path, tmp_path_factory, run):
    """Seven intact pairs, made once and copied."""
    made = tmp_path_factory.getbasetemp() / "pairs_to_verify"
    if not made.exists():
        run(made)
    return shutil.copytree(made, tmp_path / "pairs")


def lines_of(out):
    return (out / "manifest.jsonl").read_text().splitlines(keepends=True)


def write_lines(out, lines):
    (out / "manifest.jsonl").write_text("".join(lines))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-40])


def change_a_pixel(path):
    pixels = np.array(Image.open(path))
    pixels[3, 4] ^= 1
    Image.fromarray(pixels).save(path)


def change_line(out, number, **values):
    lines = lines_of(out)
    lines[number] = json.dumps({**json.loads(lines[number]), **values}, ensure_ascii=False) + "\n"
    write_lines(out, lines)


def break_line(out):
    lines = lines_of(out)
    write_lines(out, [*lines[:2], lines[2][: len(lines[2]) // 2] + "\n", *lines[3:]])


def add_orphans(out):
    (out / "lq" / "gone").mkdir()
    shutil.copy(out / "hq" / "a.png", out / "hq" / "z.png")
    shutil.copy(out / "lq" / "a.png", out / "lq" / "gone" / "y.png")


DAMAGES = {
    "missing": (lambda out: (out / "lq" / "sub" / "c.png").unlink(), [("missing", "lq/sub/c.png")]),
    "torn HQ": (lambda out: truncate(out / "hq" / "a.png"), [("torn", "hq/a.png")]),
    "empty LQ": (lambda out: (out / "lq" / "a.png").write_bytes(b""), [("torn", "lq/a.png")]),
    "altered HQ": (lambda out: change_a_pixel(out / "hq" / "é.png"), [("altered", "hq/é.png")]),
    "altered LQ": (lambda out: change_a_pixel(out / "lq" / "b.png"), [("altered", "lq/b.png")]),
    "swapped": (
        lambda out: shutil.copy(out / "lq" / "b.png", out / "lq" / "d.png"),
        [("altered", "lq/d.png")],
    ),
    "orphans": (add_orphans, [("orphan", "hq/z.png"), ("orphan", "lq/gone/y.png")]),
    "broken line": (
        break_line,  # the line of b: its files become orphans, and meta_info differs
        [
            ("broken", "manifest.jsonl:3"),
            ("meta_info", "meta_info.txt"),
            ("orphan", "hq/b.png"),
            ("orphan", "lq/b.png"),
        ],
    ),
    "doubled line": (
        lambda out: write_lines(out, [*lines_of(out), lines_of(out)[0]]),
        [("unsorted", "manifest.jsonl"), ("doubled", "manifest.jsonl")],
    ),
    "unlike double": (
        lambda out: write_lines(out, [lines_of(out)[0].replace('"lq_sha256": "', '"lq_sha256": "0'), *lines_of(out)]),
        [("doubled", "manifest.jsonl")],
    ),
    "two truths": (
        lambda out: write_lines(out, [lines_of(out)[0].replace('"t": 0', '"t": 9'), *lines_of(out)]),
        [("doubled", "manifest.jsonl")],
    ),
    "unsorted": (lambda out: write_lines(out, lines_of(out)[::-1]), [("unsorted", "manifest.jsonl")]),
    "hash lost": (
        lambda out: change_line(out, 0, lq_sha256=None),
        [
            ("broken", "manifest.jsonl:1"),
            ("meta_info", "meta_info.txt"),
            ("orphan", "hq/B.png"),
            ("orphan", "lq/B.png"),
        ],
    ),
    "meta_info": (
        lambda out: (out / "meta_info.txt").write_text("hq/a.png, lq/b.png\n"),
        [("meta_info", "meta_info.txt")],
    ),
    "no meta_info": (lambda out: (out / "meta_info.txt").unlink(), [("meta_info", "meta_info.txt")]),
    "half a file": (
        lambda out: (out / "lq" / ".0123456789abcdef.0.tmp").write_bytes(b"\x89PNG"),
        [("leftover", "lq/.0123456789abcdef.0.tmp")],
    ),
    "parts": (
        lambda out: (out / "manifest.jsonl").rename(out / "manifest.rank3.jsonl"),
        [("unfinished", "manifest.rank3.jsonl")],
    ),
    "failures": (
        lambda out: (out / "failures.jsonl").write_text('{"source": "x.png"\n'),
        [("broken", "failures.jsonl:1")],
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_damage_is_named_and_mended(pairs, run, content, damage):
    whole = content(pairs)
    assert main(["verify", str(pairs)]) == 0
    harm, expected = DAMAGES[damage]
    harm(pairs)
    harmed = content(pairs)
    assert sorted((one.kind, one.name) for one in verify(pairs).damages) == sorted(expected)
    assert main(["verify", str(pairs)]) == 1
    assert content(pairs) == harmed  # without --fix, nothing changes
    assert main(["verify", str(pairs), "--fix"]) == 0
    assert main(["verify", str(pairs)]) == 0
    run(pairs)
    assert content(pairs) == whole
    assert not (pairs / "lq" / "gone").exists()


def test_six_damages_at_once(pairs, run, content, capsys):
    whole = content(pairs)
    truncate(pairs / "lq" / "a.png")  # torn
    change_a_pixel(pairs / "hq" / "d.png")  # altered
    (pairs / "lq" / "sub" / "c.png").unlink()  # missing
    add_orphans(pairs)
    break_line(pairs)
    lines = lines_of(pairs)
    write_lines(pairs, [*lines, lines[-1]])  # doubled
    (pairs / "meta_info.txt").write_text((pairs / "meta_info.txt").read_text()[:-30])
    capsys.readouterr()
    assert main(["verify", str(pairs)]) == 1
    said = capsys.readouterr().out
    assert "6 pairs, 3 intact" in said
    kinds = {"torn": 1, "altered": 1, "missing": 1, "orphan": 4, "broken": 1, "doubled": 1, "meta_info": 1}
    table = {words[0]: words[1] for words in map(str.split, said.splitlines()) if len(words) == 2}
    assert table == {kind: str(number) for kind, number in kinds.items()}
    assert "torn        lq/a.png: " in said and "--fix" in said
    assert main(["verify", str(pairs), "--fix"]) == 0
    assert "kept 3 pairs" in capsys.readouterr().out
    assert set(content(pairs)) == {
        *("manifest.jsonl", "meta_info.txt", "failures.jsonl"),
        *(f"{kind}/{key}.png" for kind in ("hq", "lq") for key in ("B", "e", "é")),
    }
    assert main(["verify", str(pairs)]) == 0
    assert run(pairs)["made"] == 4
    assert content(pairs) == whole


def test_manifests_without_hq_sha256(pairs, capsys):
    """Earlier versions wrote them. Only the size of their HQ can be checked."""
    for number in range(7):
        line = json.loads(lines_of(pairs)[number])
        del line["hq_sha256"]
        lines = lines_of(pairs)
        write_lines(pairs, [*lines[:number], json.dumps(line, ensure_ascii=False) + "\n", *lines[number + 1 :]])
    change_a_pixel(pairs / "hq" / "a.png")
    assert main(["verify", str(pairs)]) == 0
    assert "7 lines, of an earlier version or another program, have no hq_sha256" in capsys.readouterr().out
    truncate(pairs / "hq" / "a.png")
    shutil.copy(pairs / "lq" / "b.png", pairs / "hq" / "b.png")
    assert [(one.kind, one.name) for one in verify(pairs).damages] == [("torn", "hq/a.png"), ("altered", "hq/b.png")]


def test_hashes_of_the_manifest_are_those_of_the_files(pairs):
    for line in map(json.loads, lines_of(pairs)):
        for kind in ("hq", "lq"):
            assert line[f"{kind}_sha256"] == sha256((pairs / line[kind]).read_bytes()).hexdigest()


def test_what_is_not_the_folders_own_stays(pairs, tmp_path, capsys):
    others = ["notes.txt", "hq/notes.txt", "lq/a.jpg", "lq/Thumbs.db", "logs/x.tmp", "hq.png", "x.0.tmp"]
    for name in others:
        (pairs / name).parent.mkdir(exist_ok=True)
        (pairs / name).write_text("mine")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine.png").write_text("mine")
    (pairs / "lq" / "linked.png").symlink_to(outside / "mine.png")
    (pairs / "hq" / "linked").symlink_to(outside)
    assert main(["verify", str(pairs)]) == 0  # foreign files are not damage
    said = capsys.readouterr().out
    assert said.count("left alone") == 4 and "lq/linked.png" in said
    truncate(pairs / "lq" / "a.png")
    assert main(["verify", str(pairs), "--fix"]) == 0
    assert all((pairs / name).read_text() == "mine" for name in others)
    assert (outside / "mine.png").read_text() == "mine" and (pairs / "lq" / "linked.png").is_symlink()


def test_lines_that_name_files_outside_are_broken_and_harm_nothing(pairs, tmp_path, run, content):
    whole = content(pairs)
    (tmp_path / "mine.png").write_bytes((pairs / "hq" / "a.png").read_bytes())
    lines = lines_of(pairs)
    record = json.loads(lines[0])
    hostile = [
        {"hq": "../mine.png"},
        {"key": "../../mine", "hq": "hq/../../mine.png", "lq": "lq/../../mine.png"},
        {"key": str(tmp_path / "mine"), "hq": str(tmp_path / "mine.png"), "lq": str(tmp_path / "mine.png")},
        {"key": "\x00", "hq": "hq/\x00.png", "lq": "lq/\x00.png"},
        {"key": "\ud800", "hq": "hq/\ud800.png", "lq": "lq/\ud800.png"},
        {"key": ""},
        {"key": ["a"]},
    ]
    write_lines(pairs, [*lines, *(json.dumps(record | change) + "\n" for change in hostile)])
    with (pairs / "manifest.jsonl").open("ab") as file:
        file.write(b"[" * 100_000 + b"\n\xff\xfe\n")
    found = verify(pairs).damages
    assert [one.kind for one in found] == ["broken"] * (len(hostile) + 2)
    assert main(["verify", str(pairs), "--fix"]) == 0
    assert (tmp_path / "mine.png").exists() and content(pairs) == whole
    # predict ignores them too
    write_lines(pairs, [*lines, *(json.dumps(record | change) + "\n" for change in hostile)])
    assert run(pairs)["made"] == 0
    assert content(pairs) == whole


def test_files_reached_through_a_link_to_elsewhere_are_not_removed(pairs, tmp_path):
    moved = (pairs / "lq" / "sub").rename(tmp_path / "elsewhere")
    (pairs / "lq" / "sub").symlink_to(moved)
    assert verify(pairs).damages == []
    truncate(moved / "c.png")
    assert main(["verify", str(pairs), "--fix"]) == 0
    assert (moved / "c.png").exists() and not (pairs / "hq" / "sub").exists()


def test_without_any_whole_line_pictures_are_nobodys(pairs, run, content, capsys):
    whole = content(pairs)
    (pairs / "manifest.jsonl").write_text("lost\n")
    assert main(["verify", str(pairs), "--fix"]) == 1
    assert "not repaired: orphan" in capsys.readouterr().out
    assert set(content(pairs)) == set(whole)
    run(pairs)
    assert content(pairs) == whole


@pytest.mark.parametrize("text", [None, "[", "settings: {}\n"])
def test_run_yaml_is_not_mended(pairs, run, capsys, text):
    (pairs / "run.yaml").unlink()
    if text is not None:
        (pairs / "run.yaml").write_text(text)
    assert main(["verify", str(pairs), "--fix"]) == 1
    assert "not repaired: run.yaml" in capsys.readouterr().out
    (pairs / "run.yaml").unlink(missing_ok=True)
    run(pairs)
    assert main(["verify", str(pairs)]) == 0


@linux_only
def test_what_cannot_be_read_keeps_its_line(pairs, content):
    """A read error may be temporary, so nothing is dropped."""
    whole = content(pairs)
    (pairs / "lq" / "a.png").chmod(0)

    def work():
        give_up_rights()
        (damage,) = verify(pairs, fix=True).damages
        assert (damage.kind, damage.name) == ("unreadable", "lq/a.png") and "denied" in damage.reason

    assert in_child(work) == 0
    (pairs / "lq" / "a.png").chmod(0o644)
    assert content(pairs) == whole


@pytest.mark.parametrize("folder", ["nowhere", ""])
def test_other_folders_are_user_errors(tmp_path, capsys, folder):
    (tmp_path / "hq").mkdir()
    (tmp_path / "hq" / "mine.png").write_text("mine")
    for words in (["verify", "--fix"], ["verify"], ["merge"], ["pack", str(tmp_path / "out"), "--format", "lmdb"]):
        assert main([words[0], str(tmp_path / folder), *words[1:]]) == 2
        assert re.search("expected a|give a path outside it", capsys.readouterr().err)
    assert (tmp_path / "hq" / "mine.png").exists()


def test_pairs_of_another_program_are_kept(pairs):
    """Their lines have a key and two names, and nothing to compare; still their images belong to somebody."""
    for number in range(1, 7):
        line = json.loads(lines_of(pairs)[number])
        lines = lines_of(pairs)
        lines[number] = json.dumps({name: line[name] for name in ("key", "hq", "lq")}, ensure_ascii=False) + "\n"
        write_lines(pairs, lines)
    images = {path: path.read_bytes() for path in pairs.rglob("*/*.png")}
    inspection = verify(pairs)
    assert (inspection.damages, inspection.whole) == ([], 7)
    verify(pairs, fix=True)
    assert {path: path.read_bytes() for path in pairs.rglob("*/*.png")} == images and len(lines_of(pairs)) == 7
    truncate(pairs / "lq" / "b.png")
    assert [(one.kind, one.name) for one in verify(pairs).damages] == [("torn", "lq/b.png")]


@pytest.fixture
def being_written(pairs, monkeypatch):
    """Another process that locks the folder like a run."""
    monkeypatch.setattr(lock_module, "PATIENCE", 0.1)
    held, done = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        lock = FolderLock(pairs)
        lock.acquire()
        os.write(held[1], b".")
        os.read(done[0], 1)
        os._exit(0)
    os.read(held[0], 1)
    yield pairs
    os.write(done[1], b".")
    os.waitpid(child, 0)


def test_a_folder_that_is_being_written_is_let_alone(being_written, hq_folder, capsys, content):
    truncate(being_written / "lq" / "a.png")
    harmed = content(being_written)
    for verb, *options in (["merge"], ["verify", "--fix"]):
        assert main([verb, str(being_written), *options]) == 2
        assert "another process is writing to" in capsys.readouterr().err
    with pytest.raises(ValueError, match="another process is writing to"):
        PairWriter(str(being_written)).check(
            PairGenerator("bicubic", t_max=0, slots=4, threads=1), HighQualityImages(str(hq_folder)), "cpu"
        )
    assert main(["verify", str(being_written)]) == 1
    assert content(being_written) == harmed
