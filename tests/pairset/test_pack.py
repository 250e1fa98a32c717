"""Packing pairs into shards and LMDB, read back with the packages that users read them with."""

import io
import json
import shutil
import sys
import tarfile
from urllib.parse import unquote

import numpy as np
import pytest
from forked_child import in_child, no_room_beyond
from PIL import Image

from ddpm_pairs.cli.main import main
from ddpm_pairs.pairset.pack import pack
from ddpm_pairs.synthesis import PairGenerator

KEYS = ["B", "__u__/__v", "a", "a.b", "b", "d 1~2", "e%2E", "sub.x/c", "é/ü.1"]


@pytest.fixture
def pairs(tmp_path, tmp_path_factory, photos, predict):
    """Nine pairs with awkward keys, made once and copied; the fourth is marked as rejected."""
    made = tmp_path_factory.getbasetemp() / "pairs_to_pack"
    if not made.exists():
        for number, key in enumerate(KEYS):
            path = tmp_path / "hq" / f"{key}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(photos[number % 4][: 64 + 4 * (number % 2), 3 * number : 3 * number + 64]).save(path)
        predict(PairGenerator("bicubic", t_max=0, slots=4, threads=1), tmp_path / "hq", made)
        lines = [json.loads(line) for line in (made / "manifest.jsonl").read_text().splitlines()]
        lines[3]["accepted"] = False
        (made / "manifest.jsonl").write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return shutil.copytree(made, tmp_path / "pairs")


ONE_TYPE = ["key", "hq", "lq", "source", "source_sha256", "seed", "t", "scale", "hq_size", "lq_size", "accepted"]
ONE_TYPE += ["hq_sha256", "lq_sha256"]


def records_of(root):
    return {one["key"]: one for one in map(json.loads, (root / "manifest.jsonl").read_text().splitlines())}


def files_of(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("rejected", [False, True])
def test_shards_read_by_webdataset(pairs, tmp_path, capsys, rejected):
    webdataset = pytest.importorskip("webdataset", reason="needs the webdataset package")
    out = tmp_path / "packed"
    words = ["pack", str(pairs), str(out), "--format", "webdataset", *(["--include_rejected"] if rejected else [])]
    assert main(words) == 0
    wanted = {key for key in KEYS if rejected or key != "a.b"}
    said = capsys.readouterr().out
    assert f"{len(wanted)} pairs in {out}: pairs-000000.tar" in said and ("1 pairs that are not" in said) != rejected
    samples = list(webdataset.WebDataset(str(out / "pairs-000000.tar"), shardshuffle=False).decode("rgb8"))
    assert {unquote(one["__key__"]) for one in samples} == {one["json"]["key"] for one in samples} == wanted
    assert len(samples) == len(wanted)
    for one in samples:
        record = records_of(pairs)[one["json"]["key"]]
        assert json.loads(one["json"].pop("manifest_line")) == record
        assert one["json"] == {name: record[name] for name in ONE_TYPE}
        for kind in ("hq", "lq"):
            np.testing.assert_array_equal(one[f"{kind}.png"], np.asarray(Image.open(pairs / record[kind])))
    assert json.loads((out / "shards.json").read_text())["pairs"] == len(wanted)
    assert {path.name for path in out.iterdir()} == {"pairs-000000.tar", "shards.json"}


def test_shards_hold_the_files_bytes_under_names_without_further_dots(pairs, tmp_path):
    pack(pairs, tmp_path / "packed", "webdataset", include_rejected=True)
    with tarfile.open(tmp_path / "packed" / "pairs-000000.tar") as tar:
        contents = {member.name: tar.extractfile(member).read() for member in tar}
        assert {(one.mtime, one.uid, one.gid, one.uname, one.mode) for one in tar.getmembers()} == {
            (0, 0, 0, "", 0o644)
        }
    assert len(contents) == 3 * len(KEYS)
    for name, content in contents.items():
        key, suffix = name.split(".", 1)  # as strict readers split them
        record = records_of(pairs)[unquote(key)]
        if suffix == "json":
            assert json.loads(json.loads(content)["manifest_line"]) == record
        else:
            assert content == (pairs / record[suffix.removesuffix(".png")]).read_bytes()


def test_shards_are_a_function_of_the_folder(pairs, tmp_path):
    pack(pairs, tmp_path / "one", "webdataset", include_rejected=True, shard_mb=1)
    moved = pairs.rename(tmp_path / "elsewhere")
    for path in moved.rglob("*.png"):
        path.touch()
    pack(moved, tmp_path / "two", "webdataset", include_rejected=True, shard_mb=1)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    with tarfile.open(tmp_path / "one" / "pairs-000000.tar") as tar:
        order = [unquote(member.name.split(".")[0]) for member in tar][::3]
    assert sorted(order) == KEYS != order  # mixed


def test_shards_are_no_larger_than_asked_for(tmp_path, predict):
    """Noise does not compress: each pair has about 270 kB, and the single large one exceeds the limit."""
    random = np.random.default_rng(0)
    (tmp_path / "hq").mkdir()
    for number in range(8):
        side = 700 if number == 5 else 288
        picture = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / "hq" / f"{number}.png", compress_level=0)
    predict(PairGenerator("bicubic", t_max=0, slots=4, threads=1), tmp_path / "hq", tmp_path / "pairs")
    packed = pack(tmp_path / "pairs", tmp_path / "packed", "webdataset", shard_mb=1)
    index = json.loads((tmp_path / "packed" / "shards.json").read_text())
    assert [shard["name"] for shard in index["shards"]] == packed.files
    assert packed.files == [f"pairs-{number:06d}.tar" for number in range(len(packed.files))]
    counts = []
    for shard in index["shards"]:
        path = tmp_path / "packed" / shard["name"]
        with tarfile.open(path) as tar:
            counts.append(len(tar.getmembers()) // 3)
        assert path.stat().st_size == shard["bytes"]
        assert shard["bytes"] <= 1e6 or counts[-1] == 1
    assert counts == [shard["pairs"] for shard in index["shards"]] and sum(counts) == 8
    assert sum(shard["bytes"] > 1e6 for shard in index["shards"]) == 1
    assert len(counts) <= 5  # three pairs fill a shard


def test_lmdb_as_basicsr_reads_it(pairs, tmp_path):
    lmdb = pytest.importorskip("lmdb", reason="needs the lmdb package")
    out = tmp_path / "packed"
    assert main(["pack", str(pairs), str(out), "--format", "lmdb", "--include_rejected"]) == 0
    keys = {}
    for kind in ("hq", "lq"):
        folder = out / f"{kind}.lmdb"
        assert {path.name for path in folder.iterdir()} == {"data.mdb", "lock.mdb", "meta_info.txt"}
        lines = (folder / "meta_info.txt").read_text(encoding="ascii").splitlines()
        keys[kind] = [line.split(".")[0] for line in lines]
        environment = lmdb.open(str(folder), readonly=True, lock=False, readahead=False, meminit=False)
        with environment.begin(write=False) as transaction:
            assert transaction.stat()["entries"] == len(KEYS)
            for key, line in zip(keys[kind], lines, strict=True):
                content = transaction.get(key.encode("ascii"))
                assert content == (pairs / records_of(pairs)[unquote(key)][kind]).read_bytes()
                width, height = Image.open(io.BytesIO(content)).size
                assert line == f"{key}.png ({height},{width},3) 1"
        environment.close()
    assert keys["hq"] == keys["lq"] and sorted(map(unquote, keys["hq"])) == KEYS


def test_lmdb_grows_beyond_its_first_room(pairs, tmp_path, monkeypatch):
    lmdb = pytest.importorskip("lmdb", reason="needs the lmdb package")
    from ddpm_pairs.pairset import lmdb as lmdb_copy

    monkeypatch.setattr(lmdb_copy, "_FIRST_ROOM", 2**16)
    monkeypatch.setattr(lmdb_copy, "_AT_ONCE", 2**14)
    pack(pairs, tmp_path / "packed", "lmdb")
    environment = lmdb.open(str(tmp_path / "packed" / "hq.lmdb"), readonly=True, lock=False)
    assert environment.stat()["entries"] == len(KEYS) - 1 and environment.info()["map_size"] > 2**16
    environment.close()


def test_long_keys(tmp_path, photos, predict, capsys):
    """Quoted, names of 255 bytes exceed the key length of LMDB and the short form of tar."""
    pytest.importorskip("lmdb", reason="needs the lmdb package")
    (tmp_path / "hq" / ("k" * 200)).mkdir(parents=True)
    for name in ("é" * 125, "k" * 200 + "/" + "x" * 251):
        Image.fromarray(photos[0][:64, :64]).save(tmp_path / "hq" / f"{name}.png")
    predict(PairGenerator("bicubic", t_max=0, slots=4, threads=1), tmp_path / "hq", tmp_path / "pairs")
    assert main(["pack", str(tmp_path / "pairs"), str(tmp_path / "lmdb"), "--format", "lmdb"]) == 2
    assert "750 bytes; LMDB allows at most 511" in capsys.readouterr().err
    pack(tmp_path / "pairs", tmp_path / "packed", "webdataset")
    with tarfile.open(tmp_path / "packed" / "pairs-000000.tar") as tar:
        assert {unquote(name.split(".")[0]) for name in tar.getnames()} == {"é" * 125, "k" * 200 + "/" + "x" * 251}
    assert {path.name for path in tmp_path.iterdir()} == {"hq", "pairs", "packed"}


HARMS = {
    "missing file": (lambda root: (root / "lq" / "a.png").unlink(), "lq/a.png does not exist"),
    "altered file": (
        lambda root: shutil.copy(root / "hq" / "b.png", root / "hq" / "a.png"),
        "hq/a.png was modified",
    ),
    "broken line": (lambda root: (root / "manifest.jsonl").open("a").write("{"), "manifest.jsonl has a broken line"),
    "unfinished": (lambda root: (root / "manifest.rank0.jsonl").touch(), "contains an unfinished run"),
    "nothing": (lambda root: (root / "manifest.jsonl").write_text(""), "contains no pairs"),
    "nothing accepted": (
        lambda root: (root / "manifest.jsonl").write_text((root / "manifest.jsonl").read_text().splitlines()[3] + "\n"),
        "only 1 pairs that are not accepted",
    ),
}


@pytest.mark.parametrize("form", ["webdataset", "lmdb"])
@pytest.mark.parametrize("harm", HARMS)
def test_damaged_folders_leave_nothing(pairs, tmp_path, capsys, harm, form):
    if form == "lmdb":
        pytest.importorskip("lmdb", reason="needs the lmdb package")
    work, reason = HARMS[harm]
    work(pairs)
    before = {path.name for path in tmp_path.iterdir()}
    assert main(["pack", str(pairs), str(tmp_path / "packed"), "--format", form]) == 2
    assert reason in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["pairs", "taken"], "already exists"),
        (["pairs", "pairs/packed"], "is inside the pairs folder"),
        (["pairs", "packed", "--shard_size", "0"], "--shard_size: got 0; expected 1 (MB) or more"),
        (["nowhere", "packed"], "contains no manifest.jsonl"),
    ],
)
def test_user_errors_are_one_line(pairs, tmp_path, monkeypatch, capsys, words, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    assert main(["pack", *words, "--format", "webdataset"]) == 2
    said = capsys.readouterr().err
    assert reason in said and said.count("\n") == 1
    assert not (tmp_path / "packed").exists()


def test_without_the_lmdb_package(pairs, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "lmdb", None)  # as Python itself marks what cannot be imported
    assert main(["pack", str(pairs), str(tmp_path / "packed"), "--format", "lmdb"]) == 2
    assert "pip install" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["webdataset", "lmdb"])
def test_a_full_disk_leaves_nothing(pairs, tmp_path, form):
    if form == "lmdb":
        pytest.importorskip("lmdb", reason="needs the lmdb package")
    before = {path.name for path in tmp_path.iterdir()}

    def work():
        no_room_beyond(20_000)
        with pytest.raises(ValueError, match=f"{tmp_path}.* cannot be written"):
            pack(pairs, tmp_path / "packed", form)

    assert in_child(work) == 0
    assert {path.name for path in tmp_path.iterdir()} == before


def test_what_a_killed_process_left_is_cleared_away(pairs, tmp_path):
    def killed():
        no_room_beyond(20_000)
        shutil.rmtree = lambda *_, **__: __import__("os")._exit(9)  # dies where it would clean up
        pack(pairs, tmp_path / "packed", "webdataset")

    assert in_child(killed) == 9
    assert len(list(tmp_path.glob(".*.tmp"))) == 1 and not (tmp_path / "packed").exists()
    pack(pairs, tmp_path / "packed", "webdataset")
    assert not list(tmp_path.glob(".*")) and (tmp_path / "packed" / "shards.json").exists()
