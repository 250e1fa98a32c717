"""Pairs are written only inside the output folder, under unique names, and a failed write stops the run."""

import os
import struct
import zlib
from contextlib import redirect_stderr
from hashlib import blake2b
from io import StringIO
from unicodedata import normalize

import pytest
import torch
from forked_child import give_up_rights, in_child, linux_only, no_room_beyond
from PIL import Image

from ddpm_pairs.cli.main import main
from ddpm_pairs.data import HighQualityImages
from ddpm_pairs.errors import OutputError
from ddpm_pairs.files import write_atomically
from ddpm_pairs.pairset.folder import PairsFolder
from ddpm_pairs.pairset.verify import verify
from ddpm_pairs.synthesis import PairGenerator, PairWriter
from ddpm_pairs.synthesis.planning import check_twins

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"
PICTURE = torch.zeros(3, 4, 4, dtype=torch.uint8)


def generator(**options):
    return PairGenerator("bicubic", **{"t_max": 0, "slots": 4, "threads": 1} | options)


def check(hq, out, **options):
    PairWriter(str(out)).check(generator(**options), HighQualityImages(str(hq)), "cpu")


def save(root, *names, color="red"):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), color).save(root / name)


@pytest.fixture
def outside(tmp_path):
    """A folder outside the output folder, to which nothing may be written."""
    folder = tmp_path / "outside"
    folder.mkdir()
    yield folder
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "hq/../../x", "/tmp/x", "", "hq/\0x", "hq/\ud800", "hq/linked/x"])
def test_names_that_lead_out_are_refused(tmp_path, outside, name):
    root = tmp_path / "pairs"
    (root / "hq").mkdir(parents=True)
    (root / "hq" / "linked").symlink_to(outside)
    for hq, lq in ((name, "lq/a.png"), ("hq/a.png", name)):
        with pytest.raises(OutputError, match="leads outside"):
            PairsFolder(root).store(PICTURE, PICTURE, {"key": "a", "hq": hq, "lq": lq})
    assert PairsFolder(root).keys() == set()
    assert {path.name for path in tmp_path.iterdir()} == {"pairs", "outside"}


@pytest.mark.parametrize("target", ["nowhere", "there"])
def test_a_link_in_a_files_place_or_beside_it_is_replaced(tmp_path, outside, target):
    mine = tmp_path / "there"
    mine.write_text("mine")
    (tmp_path / "pairs").mkdir()
    goal = mine if target == "there" else outside / "new"
    (tmp_path / "pairs" / "a.png").symlink_to(goal)
    write_atomically(tmp_path / "pairs" / "a.png", b"ours")
    assert (tmp_path / "pairs" / "a.png").read_bytes() == b"ours" and not (tmp_path / "pairs" / "a.png").is_symlink()
    beside = f".{blake2b(b'b.png', digest_size=8).hexdigest()}.0.tmp"
    (tmp_path / "pairs" / beside).symlink_to(goal)
    write_atomically(tmp_path / "pairs" / "b.png", b"ours")
    assert {path.name: path.read_bytes() for path in (tmp_path / "pairs").iterdir()} == {
        "a.png": b"ours",
        "b.png": b"ours",
    }
    assert mine.read_text() == "mine" and not (outside / "new").exists()


@pytest.mark.parametrize("place", ["hq", "lq", "hq/sub"])
def test_links_to_elsewhere_are_refused_before_any_work(hq_folder, tmp_path, outside, place):
    out = tmp_path / "pairs"
    (out / place).parent.mkdir(parents=True, exist_ok=True)
    (out / place).symlink_to(outside)
    with pytest.raises(ValueError, match="leads outside"):
        check(hq_folder, out)


def test_the_folder_itself_may_be_a_link(hq_folder, tmp_path, predict):
    (tmp_path / "disk").mkdir()
    (tmp_path / "pairs").symlink_to(tmp_path / "disk")
    assert predict(generator(), hq_folder, tmp_path / "pairs")["made"] == 7
    assert (tmp_path / "disk" / "manifest.jsonl").is_file() and verify(tmp_path / "pairs").damages == []


def test_pairs_are_not_read_as_pictures_through_a_link(hq_folder, tmp_path, predict):
    predict(generator(), hq_folder, tmp_path / "pairs")
    (hq_folder / "more").symlink_to(tmp_path / "pairs" / "hq")
    with pytest.raises(ValueError, match="must not contain each other"):
        check(hq_folder, tmp_path / "pairs")


TWINS = [
    ((True, False), "b.png", "B.png"),
    ((False, True), f"{COMPOSED}.png", f"{DECOMPOSED}.png"),
    ((True, True), f"{COMPOSED}.png", f"{DECOMPOSED.upper()}.png"),
    ((True, False), "strasse.png", "STRAßE.png"),
    ((True, False), "sub/a.png", "SUB/a.png"),
]


@pytest.mark.parametrize(("fold", "one", "other"), TWINS)
def test_names_that_a_file_system_takes_as_one(fold, one, other):
    sources = {name.removesuffix(".png"): name for name in (one, other)}
    with pytest.raises(ValueError, match="would become the same file") as caught:
        check_twins(sources, fold)
    assert repr(one) in str(caught.value) and repr(other) in str(caught.value)
    check_twins(sources, (False, False))
    check_twins(sources, (not fold[0], not fold[1]) if sum(fold) == 1 else (False, True))


def test_a_file_and_a_folder_of_one_name():
    for fold, name in (((False, False), "a.png/b"), ((True, False), "A.PNG/b"), ((False, True), f"{DECOMPOSED}.png/b")):
        with pytest.raises(ValueError, match=r"would become .*\.png, which is a folder"):
            check_twins({"a": "a.jpg", COMPOSED: "x.jpg", name: "y.jpg"}, fold)


def test_twins_are_made_apart_or_refused(tmp_path, predict, pixels):
    """Names are checked as the file system of the sources stores them."""
    hq, colors = tmp_path / "hq", {"b": "red", "B": "lime", COMPOSED: "blue", DECOMPOSED: "white"}
    for key, color in colors.items():
        save(hq, f"{key}.png", color=color)
    if len(list(hq.iterdir())) < 4:
        pytest.skip("this file system does not distinguish such names, so a folder cannot contain both")
    summary = predict(generator(), hq, tmp_path / "pairs")
    assert summary["made"] == 4 and normalize("NFC", DECOMPOSED) == COMPOSED
    assert PairsFolder(tmp_path / "pairs").keys() == set(colors)
    for key, color in colors.items():
        for kind in ("hq", "lq"):
            assert Image.open(tmp_path / "pairs" / kind / f"{key}.png").getpixel((0, 0)) == Image.new(
                "RGB", (1, 1), color
            ).getpixel((0, 0))
    assert verify(tmp_path / "pairs").damages == []
    assert not list(tmp_path.glob(".ddpm_pairs*"))


def test_the_longest_names(tmp_path, predict, content):
    """Names may have 255 bytes with the suffix. Names of variants that are too long are reported."""
    longest, fits = "x" * 251, "é" * 124
    save(tmp_path / "hq", f"{longest}.png", f"{fits}.jpg", f"{'k' * 255}/{longest}.png")
    summary = predict(generator(), tmp_path / "hq", tmp_path / "pairs")
    assert summary["made"] == 3 and summary["failures"] == []
    whole = content(tmp_path / "pairs")
    assert predict(generator(), tmp_path / "hq", tmp_path / "pairs")["made"] == 0
    assert content(tmp_path / "pairs") == whole
    summary = predict(generator(variants=2), tmp_path / "hq", tmp_path / "two")
    assert PairsFolder(tmp_path / "two").keys() == {longest, fits, f"{'k' * 255}/{longest}", f"{fits}~1"}
    assert [failure.source for failure in summary["failures"]] == [f"{'k' * 255}/{longest}.png", f"{longest}.png"]
    assert all("is too long for the pairs folder" in failure.reason for failure in summary["failures"])


def test_paths_that_grow_too_long(tmp_path, predict):
    """Each name is short enough, but the whole path is too long in a longer output folder."""
    depth = (4096 - len(os.fsencode(tmp_path)) - 60) // 201
    key = "/".join(["d" * 200] * depth)
    hq = tmp_path / "h"
    save(hq, f"{key}/a.png", "b.png")
    out = tmp_path / "o" / ("p" * 200)
    summary = predict(generator(), hq, out)
    assert PairsFolder(out).keys() == {"b"}
    assert [failure.source for failure in summary["failures"]] == [f"{key}/a.png"]


@linux_only
@pytest.mark.parametrize("closed", [".", "pairs"])
def test_a_folder_without_the_right_to_write_is_refused_before_any_work(hq_folder, tmp_path, closed):
    place = tmp_path / "place"
    (place / closed).mkdir(parents=True)
    (place / closed).chmod(0o555)

    def work():
        give_up_rights()
        with pytest.raises(ValueError, match=r"pairs cannot be written \(permission denied"):
            check(hq_folder, place / "pairs")

    assert in_child(work) == 0


def test_a_file_on_the_way_is_refused(hq_folder, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match=r"file is a file\)"):
        check(hq_folder, tmp_path / "file" / "pairs")
    assert (tmp_path / "file").read_text() == "mine"


@linux_only
def test_rights_that_are_lost_on_the_way(hq_folder, tmp_path, predict, content):
    predict(generator(), hq_folder, tmp_path / "whole")
    out = tmp_path / "pairs"
    (out / "lq").mkdir(parents=True)
    (out / "lq").chmod(0o555)

    def work():
        give_up_rights()
        with pytest.raises(OutputError, match=r"lq/.*png cannot be written \(Permission denied\)"):
            predict(generator(), hq_folder, out)

    assert in_child(work) == 0
    # an HQ without its LQ, and no manifest without a pair
    assert {one.kind for one in verify(out).damages} == {"orphan", "missing", "meta_info"}
    (out / "lq").chmod(0o755)
    predict(generator(), hq_folder, out)
    assert content(out) == content(tmp_path / "whole")


@pytest.mark.parametrize("what", ["picture", "line"])
def test_a_full_disk_stops_with_a_sentence_and_the_next_run_goes_on(tmp_path, photos, predict, content, what):
    """The disk is full in the middle of an image, or in the middle of a line."""
    for number in range(8):
        save(tmp_path / "hq", f"{number}.png", color=(number, 0, 0))
    if what == "picture":  # the only file that is larger than the manifest
        Image.fromarray(photos[0][:64, :64]).save(tmp_path / "hq" / "5.png")
    predict(generator(), tmp_path / "hq", tmp_path / "whole")
    whole, out = content(tmp_path / "whole"), tmp_path / "pairs"
    line = len(whole["manifest.jsonl"]) // 8
    room = len(whole["hq/5.png"]) - 100 if what == "picture" else 3 * line + line // 2

    name = "hq/5.png" if what == "picture" else "manifest.rank0.jsonl"

    def work():
        no_room_beyond(room)
        with pytest.raises(OutputError) as caught:
            predict(generator(), tmp_path / "hq", out)
        assert str(caught.value).startswith(f"{out}/{name} cannot be written (File too large): check free space")

    assert in_child(work) == 0
    made = PairsFolder(out).keys()
    assert made == {str(number) for number in range(5 if what == "picture" else 3)}
    assert not list(out.rglob("*.tmp"))
    assert predict(generator(), tmp_path / "hq", out)["made"] == 8 - len(made)
    assert content(out) == whole


def test_a_full_disk_on_the_command_line(tmp_path, photos):
    save(tmp_path / "hq", "a.png")
    Image.fromarray(photos[0][:64, :64]).save(tmp_path / "hq" / "b.png")
    words = ["predict", "--config", "pairs_natural.yaml", "--model.t_max", "0", "--model.degradation", "bicubic"]
    words += ["--data.hq_dir", str(tmp_path / "hq"), "--data.num_workers", "0", "--trainer.accelerator", "cpu"]
    words += ["--trainer.enable_progress_bar", "false", "--output_dir", str(tmp_path / "pairs")]
    words += ["--model.threads", "1"]  # a forked process lacks its parent's other threads and would wait for them

    def work():
        no_room_beyond(4000)
        with redirect_stderr(StringIO()) as said:
            assert main(words) == 2
        lines = [line for line in said.getvalue().splitlines() if line.startswith("ddpm-pairs: error: ")]
        assert len(lines) == 1 and "hq/b.png cannot be written (File too large)" in lines[0]

    assert in_child(work) == 0
    assert PairsFolder(tmp_path / "pairs").keys() == {"a"}


def test_decompression_bombs_give_no_pair(tmp_path, predict):
    save(tmp_path / "hq", "a.png", "bomb.png")
    data = bytearray((tmp_path / "hq" / "bomb.png").read_bytes())
    data[16:24] = struct.pack(">II", 40_000, 40_000)  # the size in the header; its checksum follows
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    (tmp_path / "hq" / "bomb.png").write_bytes(data)
    summary = predict(generator(), tmp_path / "hq", tmp_path / "pairs")
    assert PairsFolder(tmp_path / "pairs").keys() == {"a"}
    (failure,) = summary["failures"]
    assert failure.source == "bomb.png" and "decompression bomb" in failure.reason
