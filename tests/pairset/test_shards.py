"""Damaged tar shards."""

import io
import json
import os
import re
import tarfile
from itertools import islice

import pytest
from packed_pairs import KEYS, found, module
from PIL import Image

from ddpm_pairs.data.pair_samples import decode_pair
from ddpm_pairs.files import LONGEST_LINE
from ddpm_pairs.images.find import Failure
from ddpm_pairs.pairset.pairs import Sample
from ddpm_pairs.pairset.shards import write_shards


def keys_before(shard, end):
    """Return the keys whose three members end before an offset, as read by the standard library."""
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
    with pytest.warns(UserWarning, match=f"^--data.pairs_dir: shard {shard} is damaged: contains"):
        one = found(shards)
    assert {pair.key for pair in one.pairs} == wanted
    held, of = len(wanted - keys_before(other, 1e9)), json.loads((shards / "shards.json").read_text())["shards"][0]
    reason = f"contains {held} of {of['pairs']} pairs in {int(part * size)} of {size} bytes; copy or pack it again"
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
    assert failure.source == shard.name and failure.reason.startswith("contains 3 of ")


def test_a_missing_shard(shards):
    (shards / "pairs-000000.tar").unlink()
    with pytest.warns(UserWarning, match="is damaged"):
        one = found(shards)
    assert one.failures == [Failure("pairs-000000.tar", "cannot be read: does not exist; copy or pack it again")]
    assert {pair.hq.path.name for pair in one.pairs} == {"pairs-000001.tar"}


def test_a_shard_that_is_there_twice(shards):
    index = json.loads((shards / "shards.json").read_text())
    index["shards"].append(index["shards"][0])
    (shards / "shards.json").write_text(json.dumps(index))
    one = found(shards)
    assert len(one.pairs) == len(KEYS) - 2 and len(one.failures) == index["shards"][0]["pairs"]
    assert re.fullmatch(r"duplicate key '.*'", one.failures[0].reason)


def test_no_shard_is_whole(shards):
    for shard in shards.glob("*.tar"):
        os.truncate(shard, 100)
    with (
        pytest.warns(UserWarning, match="is damaged"),
        pytest.raises(ValueError, match=r"no pairs in .*shards.* \(pairs-000000.tar: contains 0 of .*copy or pack"),
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
    assert reasons[cut.hq.source] == f"{cut.hq.path.name} is truncated; copy or pack it again"
    cut.hq.path.unlink()
    assert "cannot be read: No such file" in decode_pair(cut).reason


def test_records_that_tell_wrong_sizes_or_none(tmp_path, photos):
    contents = []
    for side in (photos[0], photos[0][::4, ::4]):
        buffer = io.BytesIO()
        Image.fromarray(side).save(buffer, "png")
        contents.append(buffer.getvalue())

    def sample(key, hq_size):
        return Sample(
            key,
            {"key": key, "hq": f"hq/{key}.png", "lq": f"lq/{key}.png", "hq_size": hq_size, "lq_size": [32, 24]},
            *contents,
        )

    sizes = {"good": [128, 96], "none": None, "text": ["128", "96"], "wrong": [96, 128]}
    write_shards(tmp_path, [sample(*one) for one in sizes.items()], 10**6)
    with pytest.warns(UserWarning, match="contains 2 of 4 pairs"):
        one = found(tmp_path)
    assert [pair.key for pair in one.pairs] == ["good", "wrong"]
    good, wrong = map(decode_pair, one.pairs)
    assert good[0].shape == (96, 128, 3)
    assert wrong == Failure("pairs-000000.tar/wrong.hq.png", "got 128x96 px; expected 96x128 px as recorded")


def test_a_record_too_long_to_read_is_left_out(tmp_path):
    def sample(key, more):
        record = {"key": key, "hq": f"hq/{key}.png", "lq": f"lq/{key}.png", "hq_size": [8, 4], "lq_size": [2, 1]}
        return Sample(key, record | {"more": more}, b"hq", b"lq")

    write_shards(tmp_path, [sample("long", "x" * LONGEST_LINE), sample("short", "x" * 1000)], 10**9)
    with pytest.warns(UserWarning, match="contains 1 of 2 pairs"):
        assert [pair.key for pair in found(tmp_path).pairs] == ["short"]
