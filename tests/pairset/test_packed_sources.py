"""Packed pairs give what the folder gives that they were packed from."""

import io
import json
import os
import pickle
import re
import shutil
import sys
import tarfile
from itertools import islice

import numpy as np
import pytest
import torch
from listener import Ranks
from picture_pairs import flat_pairs, save_pair

from ddpm_pairs.data import RestorationPairs
from ddpm_pairs.data.pair_samples import decode_pair
from ddpm_pairs.images.find import Failure
from ddpm_pairs.images.pixels import psnr_of
from ddpm_pairs.pairset.pack import pack
from ddpm_pairs.pairset.records import Sample
from ddpm_pairs.pairset.shards import write_shards
from ddpm_pairs.pairset.sources import find_pairs

KEYS = [*(f"n{number:02}" for number in range(34)), "B", "a.b~1", "a.b", "d 1~2", "e%2E", "sub.x/c", "é/ü.1", "a,b"]
REJECTED = {"n03", "sub.x/c"}
FORMS = ["webdataset", "lmdb"]


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A pairs folder of x4 noise, which fills two shards of 1 MB, and what becomes of it in each form."""
    random = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("packed")
    lines = []
    for number, key in enumerate(KEYS):
        height, width = (96, 128) if number % 3 else (112, 80)
        lq = random.integers(0, 256, (height // 4, width // 4, 3), np.uint8)
        hq = lq.repeat(4, 0).repeat(4, 1) // 2 + random.integers(0, 64, (height, width, 3), np.uint8)
        save_pair(root / "folder", key, hq, lq)
        psnr = psnr_of(*(torch.from_numpy(side.transpose(2, 0, 1).copy()) for side in (hq, lq)))
        record = {"key": key, "hq": f"hq/{key}.png", "lq": f"lq/{key}.png", "psnr": None if key == "B" else psnr}
        sizes = {"hq_size": [width, height], "lq_size": [width // 4, height // 4]}
        lines.append(json.dumps(record | sizes | {"accepted": key not in REJECTED}, ensure_ascii=False))
    (root / "folder" / "manifest.jsonl").write_text("".join(f"{line}\n" for line in lines))
    packed = pack(root / "folder", root / "webdataset", "webdataset", shard_mb=1)
    assert packed.files == ["pairs-000000.tar", "pairs-000001.tar"]
    try:
        pack(root / "folder", root / "lmdb", "lmdb")
    except ValueError as error:
        assert "pip install lmdb" in str(error)
    return root


@pytest.fixture(params=FORMS)
def form(request):
    if request.param == "lmdb":
        pytest.importorskip("lmdb", reason="needs the lmdb package")
    return request.param


@pytest.fixture
def shards(made, tmp_path):
    """Shards of one's own to damage."""
    return shutil.copytree(made / "webdataset", tmp_path / "shards")


@pytest.fixture
def lmdb_folders(made, tmp_path):
    """LMDB folders of one's own to damage."""
    pytest.importorskip("lmdb", reason="needs the lmdb package")
    return shutil.copytree(made / "lmdb", tmp_path / "lmdb")


def module(places, **options):
    options = {"crop_size": 64, "batch_size": 4, "num_workers": 0, "val_fraction": 0.3} | options
    data = RestorationPairs(places if isinstance(places, list) else str(places), **options)
    data.find()
    data.trainer = Ranks(0, 1, 0)
    return data


def found(place, **options):
    return find_pairs(str(place), "--data.pairs_dir", **options)


def assert_same(one, other):
    for batch, twin in zip(one, other, strict=True):
        assert batch["key"] == twin["key"]
        assert torch.equal(batch["hq"], twin["hq"]) and torch.equal(batch["lq"], twin["lq"])


# The same samples


@pytest.mark.parametrize("workers", [0, 2])
def test_same_samples_as_of_the_folder(made, form, workers):
    of_folder, packed = module(made / "folder"), module(made / form, num_workers=workers)
    assert packed.scale == 4 and packed.failures == [] and len(packed.pairs) == len(KEYS) - len(REJECTED)
    for name in ("pairs", "val_pairs"):
        assert [pair.key for pair in getattr(packed, name)] == [pair.key for pair in getattr(of_folder, name)]
    decode_pair(packed.pairs[0])  # a process that has read already passes nothing on to its loaders
    batches = len(KEYS) // 4 + 3  # more than an epoch
    assert_same(*(islice(data.train_dataloader(), batches) for data in (packed, of_folder)))
    assert_same(packed.val_dataloader(), of_folder.val_dataloader())
    assert_same(packed.test_dataloader(), of_folder.test_dataloader())


def test_files_are_those_of_the_folder(made, form):
    for pair in found(made / form).pairs:
        for side, picture in (("hq", pair.hq), ("lq", pair.lq)):
            assert picture.file() == (made / "folder" / side / f"{pair.key}.png").read_bytes()


def test_samples_can_be_sent_to_a_process(made, form):
    samples = module(made / form).training_samples()
    assert torch.equal(pickle.loads(pickle.dumps(samples))[3].hq, samples[3].hq)


def test_psnr_and_content(made, form):
    """LMDB does not tell PSNR; it is computed where a floor asks for it."""
    of_folder, packed = found(made / "folder"), found(made / form)
    assert [pair.content for pair in packed.pairs] == [pair.content for pair in of_folder.pairs]
    told = [pair.psnr if form == "webdataset" else None for pair in of_folder.pairs]
    assert [pair.psnr for pair in packed.pairs] == told
    floor = float(np.median([pair.psnr for pair in of_folder.pairs])) + 1e-3
    kept = [{pair.key for pair in module(made / one, psnr_floor=floor).pairs} for one in ("folder", form)]
    assert kept[0] - {"B"} == kept[1] - {"B"} and 10 < len(kept[1]) < 30


def test_rejected_pairs(made, form, tmp_path):
    pack(made / "folder", tmp_path / "all", form, include_rejected=True)
    some = found(tmp_path / "all")
    if form == "webdataset":
        assert some.rejected == 2 and len(some.pairs) == len(KEYS) - 2
        some = found(tmp_path / "all", include_rejected=True)
    assert some.rejected == 0 and sorted(KEYS) == [pair.key for pair in some.pairs]


def test_beside_another_place(made, form, tmp_path):
    data = module([str(made / form), str(flat_pairs(tmp_path / "flat", [1, 2, 3, 4]))], mix=[1, 1])
    assert data.pairs[0].key == f"{form}/B" and data.pairs[0].hq.source.startswith(f"{form}/")
    keys = sum((batch["key"] for batch in islice(data.train_dataloader(), 6)), [])
    assert sum(key.startswith("flat/") for key in keys) == 12


# Shards that are not whole


def keys_before(shard, end):
    """Keys of a shard whose three members lie before an offset, as the standard library reads it."""
    with tarfile.open(shard) as tar:
        ends = {}
        for member in tar:
            name = member.name.split(".")[0]
            ends[name] = max(ends.get(name, 0), member.offset_data + member.size)
            if member.name.endswith(".json"):
                ends[json.load(tar.extractfile(member))["key"]] = ends.pop(name)
    return {key for key, last in ends.items() if last <= end}


@pytest.mark.parametrize("part", [0.001, 0.4, 0.8, 0.9999])
def test_a_truncated_shard_is_named_and_what_is_whole_of_it_is_taken(shards, part):
    shard = shards / "pairs-000000.tar"
    size = shard.stat().st_size
    (other,) = {path for path in shards.glob("*.tar") if path != shard}
    wanted = keys_before(shard, int(part * size)) | keys_before(other, 1e9)
    os.truncate(shard, int(part * size))
    with pytest.warns(UserWarning, match=f"^--data.pairs_dir: the shard {shard} is damaged: it holds"):
        one = found(shards)
    assert {pair.key for pair in one.pairs} == wanted
    held, of = len(wanted - keys_before(other, 1e9)), json.loads((shards / "shards.json").read_text())["shards"][0]
    reason = f"it holds {held} of {of['pairs']} pairs in {int(part * size)} of {size} bytes; copy or pack it again"
    assert one.failures == [Failure("pairs-000000.tar", reason)]
    assert all(isinstance(decode_pair(pair), tuple) for pair in one.pairs)


def test_a_damaged_header_in_the_middle(shards):
    shard = shards / "pairs-000001.tar"
    with tarfile.open(shard) as tar:
        third = tar.getmembers()[9]  # begins the fourth pair
    with shard.open("r+b") as file:
        file.seek(third.offset)
        file.write(b"\xff" * 512)
    with pytest.warns(UserWarning, match="is damaged"):
        (failure,) = found(shards).failures
    assert failure.source == shard.name and failure.reason.startswith("it holds 3 of ")


def test_a_missing_shard(shards):
    (shards / "pairs-000000.tar").unlink()
    with pytest.warns(UserWarning, match="is damaged"):
        one = found(shards)
    assert one.failures == [
        Failure("pairs-000000.tar", "it cannot be read: No such file or directory; copy or pack it again")
    ]
    assert {pair.hq.path.name for pair in one.pairs} == {"pairs-000001.tar"}


def test_a_shard_that_is_there_twice(shards):
    index = json.loads((shards / "shards.json").read_text())
    index["shards"].append(index["shards"][0])
    (shards / "shards.json").write_text(json.dumps(index))
    one = found(shards)
    assert len(one.pairs) == len(KEYS) - 2 and len(one.failures) == index["shards"][0]["pairs"]
    assert re.fullmatch(r"the key '.*' is there already", one.failures[0].reason)


def test_no_shard_is_whole(shards):
    for shard in shards.glob("*.tar"):
        os.truncate(shard, 100)
    with (
        pytest.warns(UserWarning, match="is damaged"),
        pytest.raises(ValueError, match=r"no pair in .*shards.* \(pairs-000000.tar: it holds 0 of .*copy or pack"),
    ):
        found(shards)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"shards": [{"name": "pairs-000000.tar"}]}', '{"shards": 3}'])
def test_a_broken_index(shards, text):
    (shards / "shards.json").write_text(text)
    with pytest.raises(ValueError, match=r"^--data.pairs_dir: .*shards.json' is not the index that .* writes"):
        found(shards)


def test_pictures_that_are_damaged_later_are_replaced_and_reported(shards):
    data = module(shards, val_dir=str(shards))
    spoilt, cut = data.pairs[5], max(data.pairs, key=lambda pair: (pair.hq.path.name, pair.hq.offset))
    with spoilt.lq.path.open("r+b") as file:
        file.seek(spoilt.lq.offset + spoilt.lq.length // 2)
        file.write(b"\0\0\0\0\0\0\0\0")
    os.truncate(cut.hq.path, cut.hq.offset + 100)
    with pytest.warns(UserWarning, match="is left out"):
        for batch in islice(data.train_dataloader(), len(data.pairs) // 4 + 1):
            data.on_before_batch_transfer(batch, 0)
    reasons = {failure.source: failure.reason for failure in data.failures}
    assert set(reasons) == {spoilt.lq.source, cut.hq.source}
    assert spoilt.lq.source.startswith(f"{spoilt.lq.path.name}/")
    assert reasons[cut.hq.source] == f"{cut.hq.path.name} ends in the middle of it; copy or pack it again"
    cut.hq.path.unlink()
    assert "cannot be read: No such file" in decode_pair(cut).reason


def test_records_that_tell_wrong_sizes_or_none(tmp_path, photos):
    contents = []
    for side in (photos[0], photos[0][::4, ::4]):
        buffer = io.BytesIO()
        __import__("PIL.Image").Image.fromarray(side).save(buffer, "png")
        contents.append(buffer.getvalue())

    def sample(key, hq_size):
        return Sample(
            key,
            {"key": key, "hq": f"hq/{key}.png", "lq": f"lq/{key}.png", "hq_size": hq_size, "lq_size": [32, 24]},
            *contents,
        )

    sizes = {"good": [128, 96], "none": None, "text": ["128", "96"], "wrong": [96, 128]}
    write_shards(tmp_path, [sample(*one) for one in sizes.items()], 10**6)
    with pytest.warns(UserWarning, match="it holds 2 of 4 pairs"):
        one = found(tmp_path)
    assert [pair.key for pair in one.pairs] == ["good", "wrong"]
    good, wrong = map(decode_pair, one.pairs)
    assert good[0].shape == (96, 128, 3)
    assert wrong == Failure("pairs-000000.tar/wrong.hq.png", "it is 128x96 pixels, but was said to be 96x128")


# LMDB that is not whole


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
    """Two more lines, one changed, one less; and a picture that LQ alone has."""
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
        Failure("hq.lmdb/more", "data.mdb has no picture of this name"),
        *(Failure(f"hq.lmdb/{name}", "meta_info.txt does not tell its size") for name in names[:2]),
        *(Failure(f"lq.lmdb/{name}", "hq.lmdb has no picture of this name") for name in (*names[:2], "alone")),
    }
    path.unlink()
    with pytest.raises(ValueError, match=r"hq.lmdb/meta_info.txt' cannot be read; copy or pack it again"):
        found(lmdb_folders)


def test_a_value_that_is_gone(lmdb_folders):
    import lmdb

    pair = found(lmdb_folders).pairs[0]
    with lmdb.open(str(lmdb_folders / "lq.lmdb")) as environment, environment.begin(write=True) as transaction:
        transaction.delete(pair.lq.name.encode())
    assert decode_pair(pair) == Failure("lq.lmdb/B", "lq.lmdb does not hold it any more")


def test_without_the_lmdb_package(made, tmp_path, monkeypatch):
    (tmp_path / "packed" / "hq.lmdb").mkdir(parents=True)
    monkeypatch.setitem(sys.modules, "lmdb", None)  # as Python itself marks what cannot be imported
    with pytest.raises(
        ValueError, match=r"^--data.pairs_dir: .* needs the lmdb package; install it by .pip install lmdb"
    ) as caught:
        found(tmp_path / "packed")
    assert "\n" not in str(caught.value)
