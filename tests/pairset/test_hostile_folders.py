"""Pairs folders that somebody prepared or changed: links, special files, huge files, and changed sources."""

import json
import os
import shutil
import tarfile

import numpy as np
import pytest
import yaml
from picture_pairs import flat_pairs, write_manifest
from PIL import Image

from ddpm_pairs.cli.main import main
from ddpm_pairs.errors import OutputError
from ddpm_pairs.files import append, temporary_path, write_atomically
from ddpm_pairs.images.find import Failure
from ddpm_pairs.pairset.folder import PairsFolder
from ddpm_pairs.pairset.pack import pack
from ddpm_pairs.pairset.sources import find_pairs
from ddpm_pairs.pairset.verify import verify
from ddpm_pairs.plain_text import printable
from ddpm_pairs.synthesis import PairGenerator


@pytest.fixture
def hq_folder(tmp_path):
    random = np.random.default_rng(0)
    (tmp_path / "hq").mkdir()
    for name in ("a", "b, c"):
        small = Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8))
        small.resize((64, 64)).save(tmp_path / "hq" / f"{name}.png")
    return tmp_path / "hq"


@pytest.fixture
def run(hq_folder, predict, tmp_path):
    return lambda: predict(PairGenerator("bicubic", t_max=0, slots=4, threads=1), hq_folder, tmp_path / "pairs")


def test_a_changed_source_is_made_again_and_reported(run, hq_folder, tmp_path):
    pairs = tmp_path / "pairs"
    run()
    before = {path.name: path.read_bytes() for path in (pairs / "lq").iterdir()}
    assert run()["changed"] == 0 and verify(pairs).damages == []
    Image.fromarray(np.full((64, 64, 3), 77, np.uint8)).save(hq_folder / "a.png")
    run_file = yaml.safe_load((pairs / "run.yaml").read_text())
    assert run_file["places"]["hq_dir"] == str(hq_folder)
    (damage,) = verify(pairs).damages
    assert (damage.kind, damage.name, damage.mendable) == ("changed", "lq/a.png", False)
    assert main(["verify", str(pairs), "--fix"]) == 1 and len(PairsFolder(pairs).keys()) == 2
    summary = run()
    assert (summary["changed"], summary["made"]) == (1, 1)
    after = {path.name: path.read_bytes() for path in (pairs / "lq").iterdir()}
    assert after["b, c.png"] == before["b, c.png"] and (np.asarray(Image.open(pairs / "lq" / "a.png")) == 77).all()
    assert verify(pairs).damages == [] and run()["changed"] == 0


def test_meta_info_names_accepted_pairs_without_commas(run, tmp_path):
    pairs = tmp_path / "pairs"
    assert run()["folder"].unnamed == 1
    assert (pairs / "meta_info.txt").read_text() == "hq/a.png, lq/a.png\n"
    assert verify(pairs).damages == []
    lines = [json.loads(line) | {"accepted": False} for line in (pairs / "manifest.jsonl").read_text().splitlines()]
    (pairs / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = verify(pairs)
    assert [damage.kind for damage in found.damages] == ["meta_info"] and "2 pairs are not accepted" in found.notes[0]
    assert main(["verify", str(pairs), "--fix"]) == 0 and (pairs / "meta_info.txt").read_text() == ""


@pytest.mark.parametrize("flat", [False, True])
def test_a_plain_folder_has_accepted_pairs_under_names_that_others_read(tmp_path, flat):
    root = flat_pairs(tmp_path / "pairs", [1, 2])
    for kind in ("hq", "lq"):
        (root / kind / "sub").mkdir()
        shutil.copy(root / kind / "p001.png", root / kind / "sub" / "x, y%.png")
    write_manifest(root, ["p001", "p002", "sub/x, y%"], accepted={"p002": False})
    assert main(["pack", str(root), str(tmp_path / "out"), "--format", "folder", *(["--flat"] if flat else [])]) == 0
    name = "sub%2Fx%2C y%25" if flat else "sub/x%2C y%25"
    files = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png")}
    assert files == {f"{kind}/{key}.png" for kind in ("hq", "lq") for key in ("p001", name)}
    lines = (tmp_path / "out" / "meta_info.txt").read_text().splitlines()
    assert lines == ["hq/p001.png, lq/p001.png", f"hq/{name}.png, lq/{name}.png"]
    assert len(find_pairs(str(tmp_path / "out"), "--data.pairs_dir").pairs) == 2


@pytest.mark.parametrize("name", ["manifest.rank0.jsonl", "run.yaml.tmp", "contact_sheet.png.tmp", "meta_info.txt"])
@pytest.mark.parametrize("target", ["keep", "new"])
def test_links_in_the_folder_are_not_written_through(run, tmp_path, name, target):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").write_bytes(b"mine")
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / name).symlink_to(outside / target)
    assert run()["made"] == 2
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"keep": b"mine"}
    assert verify(tmp_path / "pairs").damages == []


def test_a_linked_manifest_is_replaced(run, tmp_path):
    run()
    pairs, outside = tmp_path / "pairs", tmp_path / "outside.jsonl"
    content = (pairs / "manifest.jsonl").read_bytes()
    (pairs / "manifest.jsonl").rename(outside)
    (pairs / "manifest.jsonl").symlink_to(outside)
    (pairs / "hq" / "stray.png").write_bytes(b"")
    assert main(["verify", str(pairs), "--fix"]) == 0
    assert outside.read_bytes() == content and not (pairs / "manifest.jsonl").is_symlink()


@pytest.mark.parametrize("kind", ["link", "device", "pipe", "huge"])
def test_files_that_must_not_be_read(tmp_path, kind, capsys):
    root = flat_pairs(tmp_path / "pairs", [1, 2])
    write_manifest(root, ["p001", "p002"])
    file = root / "hq" / "p001.png"
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "huge":
        with file.open("wb") as sparse:
            sparse.truncate(2**42)
    else:
        (tmp_path / "outside.png").write_bytes(b"secret")
        file.symlink_to("/dev/zero" if kind == "device" else tmp_path / "outside.png")
    reason = {
        "link": "is a link to a file outside the folder",
        "device": "is a link to a file outside the folder",
        "pipe": "is not a regular file",
        "huge": "has 4398046511104 bytes, too many",
    }[kind]
    found = find_pairs(str(root), "--data.pairs_dir")
    assert [pair.key for pair in found.pairs] == ["p002"]
    assert found.failures == [Failure("hq/p001.png", f"file of the pair 'p001' {reason}")]
    assert reason in [damage for damage in verify(root).damages if damage.name == "hq/p001.png"][0].reason
    assert main(["pack", str(root), str(tmp_path / "out"), "--format", "webdataset"]) == 2
    assert f"hq/p001.png {reason}" in capsys.readouterr().err and PairsFolder(root).keys() == {"p002"}


def test_appending_follows_no_link_and_waits_for_no_pipe(tmp_path):
    append(tmp_path / "new" / "a", b"1")
    append(tmp_path / "new" / "a", b"2")
    assert (tmp_path / "new" / "a").read_bytes() == b"12"
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(OutputError, match="cannot be written"):
            append(tmp_path / name, b"3")
    assert not (tmp_path / "nowhere").exists()


def test_a_hard_link_beside_a_file_is_not_written_into(tmp_path):
    (tmp_path / "mine").write_bytes(b"mine")
    write_atomically(tmp_path / "a", b"1")
    os.link(tmp_path / "mine", temporary_path(tmp_path / "a", 0))
    write_atomically(tmp_path / "a", b"2")
    assert (tmp_path / "mine").read_bytes() == b"mine" and (tmp_path / "a").read_bytes() == b"2"


@pytest.mark.parametrize("out", [".", "deeper/still"])
def test_remake_does_not_write_into_the_pairs_folder(run, tmp_path, out, capsys):
    run()
    pairs = tmp_path / "pairs"
    assert main(["remake", str(pairs), "a", "--output_dir", str(pairs / out)]) == 2
    assert "is inside the pairs folder" in capsys.readouterr().err


def test_terminal_escapes_are_shown():
    assert printable("a\x1b[31m\r\ud800\u202e[b]\té\n") == "a\\x1b[31m\\r\\ud800\\u202e[b]\té\n"


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("\ufeffhq/p001.png, lq/p001.png\n", ["p001"]),
        ("hq\\p001.png, lq\\p001.png\r\nhq\\p002.png, lq\\p002.png\r\n", ["p001", "p002"]),
        ("# comment\nhq/p001.png;lq/p001.png\nhq/p002.png\tlq/p002.png\n", ["p001", "p002"]),
        ("hq/x, y.png, lq/x, y.png\n", ["x, y"]),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_text_files_of_other_programs(tmp_path, text, keys, encoding):
    root = flat_pairs(tmp_path, [1, 2])
    for kind in ("hq", "lq"):
        shutil.copy(root / kind / "p001.png", root / kind / "x, y.png")
    (root / "meta.txt").write_bytes(text.removeprefix("\ufeff" if encoding == "utf-16" else "").encode(encoding))
    found = find_pairs(str(root / "meta.txt"), "--data.pairs_dir")
    assert [pair.key for pair in found.pairs] == keys and found.failures == []


def test_all_samples_of_shards_have_the_same_keys_and_types(tmp_path):
    root = flat_pairs(tmp_path / "pairs", [1, 2])
    drawn = [{"blur": None}, {"blur": {"side": 3}, "quality": 30}]
    write_manifest(
        root,
        ["p001", "p002"],
        degradation={f"p00{n + 1}": {"name": "x", "parameters": one} for n, one in enumerate(drawn)},
        psnr={"p001": None, "p002": 20.5},
        tile={"p001": None, "p002": 256},
        hq_size=dict.fromkeys(["p001", "p002"], [40, 48]),
        lq_size=dict.fromkeys(["p001", "p002"], [10, 12]),
    )
    pack(root, tmp_path / "out", "webdataset")
    with tarfile.open(tmp_path / "out" / "pairs-000000.tar") as tar:
        lines = [json.loads(tar.extractfile(one).read()) for one in tar if one.name.endswith(".json")]
    first, second = ({name: type(value) for name, value in line.items()} for line in lines)
    assert first == second and set(first.values()) <= {str, int, bool, list}
    found = find_pairs(str(tmp_path / "out"), "--data.pairs_dir")
    assert sorted(pair.psnr for pair in found.pairs) == [20.5, float("inf")]
