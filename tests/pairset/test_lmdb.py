"""Damaged LMDB copies."""

import os
import re
import shutil
import sys

import pytest
from packed_pairs import KEYS, found

from ddpm_pairs.data.pair_samples import decode_pair
from ddpm_pairs.images.find import Failure
from ddpm_pairs.pairset.lmdb import write_lmdb
from ddpm_pairs.pairset.pairs import Sample, quote_key


def test_damaged_lmdb(lmdb_folders):
    content = (lmdb_folders / "lq.lmdb" / "data.mdb").read_bytes()
    harms = {
        r"data.mdb has \d+ of \d+ bytes": content[: len(content) // 2],
        r"data.mdb has \d+ of \d+ bytes.": content[:-1],
        "MDB_INVALID": bytes(8192) + content[8192:],
        "Bad file|MDB_INVALID|No such": b"",
    }
    for reason, harmed in harms.items():
        (lmdb_folders / "lq.lmdb" / "data.mdb").write_bytes(harmed)
        with pytest.raises(
            ValueError, match=rf"^--data.pairs_dir: '.*lq.lmdb' cannot be read \(.*({reason})"
        ) as caught:
            found(lmdb_folders)
        assert "\n" not in str(caught.value)
    (lmdb_folders / "lq.lmdb" / "data.mdb").unlink()
    with pytest.raises(ValueError, match=r"lq.lmdb' cannot be read \(No such file"):
        found(lmdb_folders)
    shutil.rmtree(lmdb_folders / "lq.lmdb")
    with pytest.raises(ValueError, match=r"lq.lmdb' cannot be read \(No such file"):
        found(lmdb_folders)


def test_lmdb_cut_short_after_it_was_found(lmdb_folders):
    pair = found(lmdb_folders).pairs[0]
    os.truncate(pair.hq.path / "data.mdb", 20000)
    assert re.fullmatch(
        r"hq.lmdb cannot be read: data.mdb has 20000 of .*; copy or pack it again", decode_pair(pair).reason
    )


def test_names_that_do_not_agree(lmdb_folders):
    """meta_info.txt with added, changed, and missing lines, and an image that only LQ has."""
    import lmdb

    path = lmdb_folders / "hq.lmdb" / "meta_info.txt"
    lines = path.read_text().splitlines()
    names = [line.split(".")[0] for line in lines]
    path.write_text("\n".join(["more.png (4,4,3) 1", lines[0] + "0.5", *lines[2:]]))
    with lmdb.open(str(lmdb_folders / "lq.lmdb")) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"alone", b"")
    with (lmdb_folders / "lq.lmdb" / "meta_info.txt").open("a") as file:
        file.write("alone.png (4,4,3) 1\n")
    one = found(lmdb_folders)
    assert len(one.pairs) == len(KEYS) - 2 - 2
    assert set(one.failures) == {
        Failure("hq.lmdb/meta_info.txt", "line 2 is not `<key>.png (<height>,<width>,3) <compression level>`"),
        Failure("hq.lmdb/more", "data.mdb has no image with this name"),
        *(Failure(f"hq.lmdb/{name}", "meta_info.txt does not contain its size") for name in names[:2]),
        *(Failure(f"lq.lmdb/{name}", "hq.lmdb has no image with this name") for name in (*names[:2], "alone")),
    }
    path.unlink()
    with pytest.raises(ValueError, match=r"hq.lmdb/meta_info.txt' cannot be read; copy or pack it again"):
        found(lmdb_folders)


def test_a_value_that_is_gone(lmdb_folders):
    import lmdb

    pair = found(lmdb_folders).pairs[0]
    with lmdb.open(str(lmdb_folders / "lq.lmdb")) as environment, environment.begin(write=True) as transaction:
        transaction.delete(pair.lq.name.encode())
    assert decode_pair(pair) == Failure("lq.lmdb/B", "lq.lmdb no longer contains this image")


def test_without_the_lmdb_package(made, tmp_path, monkeypatch):
    (tmp_path / "packed" / "hq.lmdb").mkdir(parents=True)
    monkeypatch.setitem(sys.modules, "lmdb", None)  # as Python itself marks what cannot be imported
    with pytest.raises(
        ValueError, match=r"^--data.pairs_dir: .* needs the lmdb package; install it with .pip install lmdb"
    ) as caught:
        found(tmp_path / "packed")
    assert "\n" not in str(caught.value)


def test_names_that_would_lead_out_of_a_folder_are_refused(tmp_path):
    pytest.importorskip("lmdb", reason="needs the lmdb package")
    keys = ["../../x", "/x", "a/../b", "good"]
    samples = [Sample(quote_key(key), {"key": key, "hq_size": [8, 4], "lq_size": [2, 1]}, b"hq", b"lq") for key in keys]
    write_lmdb(tmp_path, sorted(samples, key=lambda sample: sample.name))
    one = found(tmp_path)
    assert [pair.key for pair in one.pairs] == ["good"] and one.pairs[0].hq.size == (4, 8)
    reason = "name would lead outside an output folder"
    assert set(one.failures) == {
        Failure(f"{kind}.lmdb/{quote_key(key)}", reason) for kind in ("hq", "lq") for key in keys[:-1]
    }
