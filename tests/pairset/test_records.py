"""Records of pairs, manifest lines, and keys."""

import json
import math
from urllib.parse import unquote

import pytest

from ddpm_pairs import files
from ddpm_pairs.pairset.pairs import quote_key, unquote_key
from ddpm_pairs.pairset.records import (
    Summary,
    content_of,
    fault_of,
    line_at,
    read_lines,
    read_records,
    variant_keys,
)

GOOD = {"key": "sub/a", "hq": "hq/sub/a.png", "lq": "lq/sub/a.png"}


def test_variants_and_what_they_show():
    assert variant_keys("a", 1) == ["a"]
    assert variant_keys("sub/a~b", 3) == ["sub/a~b", "sub/a~b~1", "sub/a~b~2"]
    assert {content_of(key) for key in variant_keys("sub/a~b", 12)} == {"sub/a~b"}
    assert content_of("~1/a") == "~1/a"


@pytest.mark.parametrize(
    "key", ["a.b", "sub.x/c", "é/ü.1", "d 1~2", "e%2E", "a,b?#&+", "\U0001f600", "__a__/b", "a/___b"]
)
def test_quoted_keys_are_ascii_without_dots(key):
    name = quote_key(key)
    assert not any(part.startswith("__") for part in name.split("/"))
    assert name.isascii() and "." not in name and name.count("/") == key.count("/")
    assert unquote_key(name) == unquote(name) == key


@pytest.mark.parametrize(
    "change",
    [
        {"key": None}, {"key": ""}, {"key": "/a"}, {"key": "../a"}, {"key": "a/../b"}, {"key": "a//b"}, {"key": "./a"},
        {"key": "a\0"}, {"key": "\ud800"}, {"key": ["a"]}, {"hq": "lq/a.png"}, {"lq": "a.png"}, {"hq": "/hq/a.png"},
        {"hq": "hq/../../a.png"}, {"lq": "lq/\0.png"}, {"lq": 3}, {"lq": "lq/\udfff.png"},
    ],
)  # fmt: skip
def test_records_that_could_reach_out_of_their_folder_are_none(change):
    assert fault_of(GOOD) is None and fault_of(GOOD | {"more": [1]}) is None
    assert "\n" not in fault_of(GOOD | change)


@pytest.mark.parametrize("value", [None, 3, "text", [GOOD], {}])
def test_other_values_are_no_records(value):
    assert fault_of(value)


def test_lines_are_read_one_by_one_whatever_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LONGEST_LINE", 100)
    path = tmp_path / "manifest.jsonl"
    good, fits = json.dumps(GOOD).encode(), b'"' + b"x" * 97 + b'"\n'  # exactly the maximum length
    lines = [
        good + b"\n",
        b"\n",
        b"[1]\n",
        b"[" * 1000 + b"\n",
        b"\xff\n",
        fits,
        b'"x' + fits[1:],
        good + b"  \n",
        good[:20],
    ]
    path.write_bytes(b"".join(lines))
    starts = [sum(map(len, lines[:number])) for number in range(len(lines))]
    assert list(read_lines(path)) == list(
        zip(starts, [GOOD, None, [1], None, None, "x" * 97, None, GOOD, None], strict=True)
    )
    found = [(position, record) for position, record in read_records(path) if record is not None]
    assert found == [(starts[0], GOOD), (starts[7], GOOD)]
    assert [line_at(path, position) for position, _ in found] == [good + b"\n"] * 2


def test_a_summary_counts_what_records_say_and_passes_them_on():
    full = {"accepted": False, "t": 40, "evaluations": 12, "psnr": 20.5, "psnr_initial": None}
    foreign = {"key": "b"}  # only key, hq, and lq are required
    summary = Summary()
    assert list(summary.counted([full, foreign])) == [full, foreign]
    assert (summary.pairs, summary.accepted, summary.t, summary.evaluations) == (2, 1, 40, 12)
    assert (list(summary.psnr), list(summary.psnr_initial)) == ([20.5], [math.inf])
    assert vars(Summary([full, foreign])) == vars(summary)
