import math

import pytest
from picture_pairs import flat_pair, flat_pairs, save_pair, write_manifest

from ddpm_pairs.images.find import Failure
from ddpm_pairs.pairset.sources import find_pairs, tell_apart


def found(place, **options):
    return find_pairs(str(place), "--data.pairs_dir", **options)


def keys(one):
    return [pair.key for pair in one.pairs]


# Folders


def test_folders_are_matched_by_key(tmp_path):
    for key in ("b", "a", "deep/c~2"):
        save_pair(tmp_path, key, *flat_pair(1))
    (tmp_path / "lq" / "a.png").rename(tmp_path / "lq" / "a.JPG")
    one = found(tmp_path)
    assert keys(one) == ["a", "b", "deep/c~2"]
    assert one.pairs[0].lq.path == tmp_path / "lq" / "a.JPG" and one.pairs[0].hq.source == "hq/a.png"
    assert [pair.content for pair in one.pairs] == ["a", "b", "deep/c"]
    assert one.failures == [] and one.rejected == 0 and one.pairs[0].psnr is None


def test_partners_missing_on_either_side_and_foreign_files_are_listed(tmp_path):
    flat_pairs(tmp_path, [1, 2, 3])
    (tmp_path / "hq" / "p001.png").unlink()
    (tmp_path / "lq" / "p002.png").unlink()
    (tmp_path / "lq" / "notes.txt").touch()
    one = found(tmp_path)
    assert keys(one) == ["p003"]
    assert one.failures[0] == Failure("hq/p002.png", "lq/ has no image with this name")
    assert one.failures[1].source == "lq/notes.txt"
    assert one.failures[2] == Failure("lq/p001.png", "hq/ has no image with this name")


# Manifests


def test_a_manifest_names_the_pairs(tmp_path):
    flat_pairs(tmp_path, [1, 2, 3, 4])
    names = ["p001", "p002", "p003"]
    write_manifest(tmp_path, names, psnr={"p001": 21.5, "p002": None}, accepted={"p003": True})
    one = found(tmp_path)
    assert keys(one) == names
    assert [pair.psnr for pair in one.pairs] == [21.5, math.inf, None]


def test_parts_of_an_unfinished_run_count_too(tmp_path):
    flat_pairs(tmp_path, [1, 2, 3])
    write_manifest(tmp_path, ["p001"])
    write_manifest(tmp_path, ["p002"], "manifest.rank0.jsonl")
    write_manifest(tmp_path, ["p003"], "manifest.rank1.jsonl")
    with (tmp_path / "manifest.rank1.jsonl").open("a") as file:
        file.write('{"key": "p0')
    one = found(tmp_path)
    assert keys(one) == ["p001", "p002", "p003"]
    assert one.failures == [Failure("manifest.rank1.jsonl", "line 2 is not a manifest line (not valid JSON)")]


def test_rejected_pairs_are_left_out_and_counted(tmp_path):
    flat_pairs(tmp_path, [1, 2, 3])
    write_manifest(tmp_path, ["p001", "p002", "p003"], accepted={"p001": False, "p002": True})
    one = found(tmp_path)
    assert keys(one) == ["p002", "p003"] and one.rejected == 1 and one.failures == []
    everything = found(tmp_path, include_rejected=True)
    assert keys(everything) == ["p001", "p002", "p003"] and everything.rejected == 0


def test_nothing_but_rejected_pairs(tmp_path):
    write_manifest(flat_pairs(tmp_path, [1]), ["p001"], accepted={"p001": False})
    with pytest.raises(ValueError, match=r"--data.pairs_dir: all 1 pairs of .* are marked as not accepted; .*include_"):
        found(tmp_path)


def test_missing_files_of_a_manifest_are_listed(tmp_path):
    flat_pairs(tmp_path, [1, 2])
    write_manifest(tmp_path, ["p001", "p002"])
    (tmp_path / "lq" / "p001.png").unlink()
    one = found(tmp_path)
    assert keys(one) == ["p002"]
    assert one.failures == [Failure("lq/p001.png", "file of the pair 'p001' does not exist")]


@pytest.mark.parametrize("key", ["../p001", "/p001", "a/../p001", ""])
def test_keys_that_lead_out_of_a_folder_are_refused(tmp_path, key):
    write_manifest(flat_pairs(tmp_path, [1, 2]), ["p002", "hq/p001"])
    text = (tmp_path / "manifest.jsonl").read_text()
    (tmp_path / "manifest.jsonl").write_text(text.replace('"key": "hq/p001"', f'"key": "{key}"'))
    one = found(tmp_path)
    assert keys(one) == ["p002"] and one.failures[0].reason == (
        f"line 2 is not a manifest line (key: got {key!r}; expected a relative name without ..)"
    )


# Text files


def test_a_meta_info_file(tmp_path):
    flat_pairs(tmp_path / "sets" / "one", [1, 2])
    (tmp_path / "sets" / "hq").mkdir()
    (tmp_path / "sets" / "one" / "hq" / "p002.png").rename(tmp_path / "sets" / "hq" / "q.x.png")
    elsewhere = tmp_path / "sets" / "one" / "lq" / "p002.png"
    text = tmp_path / "sets" / "meta_info.txt"
    text.write_text(
        "one/hq/p001.png, one/lq/p001.png\n\n  hq/q.x.png ,one/lq/p002.png\n"
        f"one/hq/p001.png, {elsewhere}\n../sets/one/hq/p001.png, one/lq/none.png\nalone.png\n,\n"
    )
    one = found(text)
    assert keys(one) == ["one/hq/p001", "one/hq/p001~1", "q.x"]
    assert one.pairs[0].hq.path == tmp_path / "sets/one/hq/p001.png" and one.pairs[1].lq.path == elsewhere
    assert [pair.content for pair in one.pairs] == ["one/hq/p001", "one/hq/p001", "q.x"]
    assert one.failures == [
        Failure("meta_info.txt", "line 6 is not `<HQ path>, <LQ path>`"),
        Failure("meta_info.txt", "line 7 is not `<HQ path>, <LQ path>`"),
        Failure("one/lq/none.png", "file of the pair 'sets/one/hq/p001' does not exist"),
    ]


def test_the_text_that_a_pairs_folder_holds(tmp_path):
    flat_pairs(tmp_path, [1, 2])
    (tmp_path / "meta_info.txt").write_text("hq/p001.png, lq/p001.png\nhq/p002.png, lq/p002.png\n")
    assert found(tmp_path / "meta_info.txt").pairs == found(tmp_path).pairs


# Invalid sources


def test_errors_are_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").touch()
    (tmp_path / "binary.bin").write_bytes(bytes(range(256)))
    (tmp_path / "unmatched").mkdir()
    flat_pairs(tmp_path / "unmatched", [1])
    (tmp_path / "unmatched" / "hq" / "p001.png").rename(tmp_path / "unmatched" / "hq" / "q.png")
    for name, text in {
        "nowhere": ".*nowhere. does not exist; give a pairs folder, packed pairs, or a meta_info file",
        "empty": "is not a folder of pairs; expected manifest.jsonl, hq/ and lq/, or",
        "empty.txt": "no pairs in .*empty.txt.; give",
        "binary.bin": "binary.bin. is not a text file",
        "unmatched": r"no pairs in .*unmatched. \(hq/q.png: lq/ has no image with this name\); give",
    }.items():
        with pytest.raises(ValueError, match=f"^--data.pairs_dir: .*{text}") as caught:
            found(tmp_path / name)
        assert "\n" not in str(caught.value)


# Several places


def test_several_places_have_keys_and_sources_of_their_own(tmp_path):
    one, other = (found(flat_pairs(tmp_path / name, [1])) for name in ("one", "other"))
    one.failures.append(Failure("lq/x.png", "because"))
    together = tell_apart([one, other])
    assert [keys(place) for place in together] == [["one/p001"], ["other/p001"]]
    assert {pair.content for place in together for pair in place.pairs} == {"p001"}
    assert together[0].failures == [Failure("one/lq/x.png", "because")]
    assert together[1].pairs[0].hq.source == "other/hq/p001.png"
    assert [keys(place) for place in tell_apart([one, one])] == [["one-0/p001"], ["one-1/p001"]]
    assert tell_apart([one]) == [one]
