"""Files of any content: a reader returns or raises ``UserError``, and changes nothing outside its folder."""

import io
import json
import tarfile

import pytest
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mutations import changed, torn
from picture_pairs import flat_pairs
from safetensors.torch import save

from ddpm_pairs.errors import UserError
from ddpm_pairs.metrics.cache import cached_features
from ddpm_pairs.metrics.tensor_file import encode_tensors
from ddpm_pairs.pairset.folder import PairsFolder, read_run
from ddpm_pairs.pairset.inspect import inspect_folder
from ddpm_pairs.pairset.sources import find_pairs
from ddpm_pairs.run_folder import RunFolder, read_failures
from ddpm_pairs.study.folder import StudyFolder

FAST = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

RECORD = {
    **{"key": "p001", "hq": "hq/p001.png", "lq": "lq/p001.png", "source": "p001.png", "source_sha256": "0" * 64},
    **{"seed": 0, "t": 58, "logsnr": 4.5, "sampler": "ddim", "num_steps": 12, "evaluations": 12, "scale": 4},
    "degradation": {"name": "walk", "parameters": {"t": 58, "start": {"name": "bicubic", "parameters": {}}}},
    "hq_preparation": {"sharpened": False, "gray": False},
    **{"tile": None, "hq_size": [40, 48], "lq_size": [10, 12], "psnr": 24.0, "psnr_initial": None, "accepted": True},
}
RUN = {
    "format": 2,
    "settings": {
        "checkpoint_sha256": None,
        "degradation": {"name": "bicubic", "class_path": "ddpm_pairs.degradations.Bicubic", "init_args": {"scale": 4}},
        **{"scale": 4, "sharpen_hq": False, "gray_hq": 0.0, "variants": 1, "psnr_drop": 2.0, "tile": 256},
        **{"seed": 0, "device": "cpu"},
    },
    "machine": {"precision": "fp32", "compile": False, "slots": 8, "threads": 2, "multiple": 4},
    "places": {"hq_dir": "/nowhere", "checkpoint": None},
}
STUDY = {"degradations": ["bicubic"], "ts": [0, 50], "patch": 32, "scale": 4, "precision": "fp32", "starts": []}
FEATURES = {"fid": torch.ones(3, 4), "fid192": torch.ones(3, 2)}


def quietly(function, *arguments):
    """Call a function that may raise ``UserError``."""
    try:
        return function(*arguments)
    except UserError as error:
        assert len(str(error).splitlines()) == 1
        return None


def lines(value):
    return json.dumps(value).encode() + b"\n"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = flat_pairs(tmp_path_factory.mktemp("fuzz") / "pairs", [1])
    (root / "other").mkdir()
    return root


@FAST
@given(changed(RECORD).map(lines) | torn(lines(RECORD)) | st.binary(max_size=99))
@example(b"[" * 10**5)
@example(b'{"a":' * 10**5)
@example(lines(RECORD).replace(b"24.0", b"1e999"))
@example(lines(RECORD).replace(b"24.0", b"NaN"))
@example(lines(RECORD).replace(b'"t": 58', b'"t": ' + b"9" * 5000))
@example(lines(RECORD | {"key": "k" * 5000, "hq": f"hq/{'k' * 5000}.png"}))
def test_manifests(root, content):
    (root / "manifest.jsonl").write_bytes(content)
    (root / "run.yaml").write_text(yaml.safe_dump(RUN))
    folder = PairsFolder(root)
    assert len(folder.keys()) == len(list(folder.records())) <= 1
    quietly(find_pairs, str(root), "--data.pairs_dir")
    assert inspect_folder(root).damages  # meta_info.txt at least
    (root / "manifest.jsonl").unlink()


@FAST
@given(changed(RUN).map(yaml.safe_dump).map(lambda text: text.encode(errors="replace")) | torn(yaml.dump(RUN).encode()))
@example(b"a: &a [*a]")
@example(b"{" * 10**5)
@example(b"&a [" + b"&b [" * 60 + b"]" * 61)
def test_run_files(root, content):
    (root / "run.yaml").write_bytes(content)
    run = quietly(read_run, root)
    if run is not None:
        assert run["machine"]["threads"] in (None, 1, 2, 4) and run["machine"]["slots"] in (4, 8)
        assert 1 <= run["machine"]["multiple"] <= 1024 and isinstance(run["places"]["hq_dir"], str)
    quietly(RunFolder(root, "run.yaml", "things").check, {"tile": 3})


@FAST
@given(changed(STUDY).map(lines) | torn(lines(STUDY)))
@pytest.mark.filterwarnings("ignore:.*cannot be read")
def test_study_settings(root, content):
    (root / "study.json").write_bytes(content)
    quietly(StudyFolder(root).check, STUDY)
    found = quietly(StudyFolder(root).settings)
    assert found is None or found.get("precision") in (None, "fp32", "bf16")


def sample(record):
    """A shard of one pair."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for suffix, content in (("hq.png", b"1"), ("lq.png", b"2"), ("json", lines(record))):
            header = tarfile.TarInfo(f"p001.{suffix}")
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return buffer.getvalue()


SHARD = sample({"key": "p001", "manifest_line": json.dumps(RECORD)})
INDEX = {"pairs": 1, "shards": [{"name": "pairs-000000.tar", "pairs": 1, "bytes": len(SHARD)}]}


@FAST
@given(
    changed(INDEX).map(lines) | torn(lines(INDEX)) | st.just(lines(INDEX)),
    torn(SHARD[:4096]) | changed(RECORD).map(sample) | st.just(SHARD),
)
@example(lines(INDEX), SHARD)
@pytest.mark.filterwarnings("ignore:.*is damaged")
def test_shards(root, index, shard):
    (root / "other" / "shards.json").write_bytes(index)
    (root / "other" / "pairs-000000.tar").write_bytes(shard)
    found = quietly(find_pairs, str(root / "other"), "--data.pairs_dir")
    assert found is not None or (index, shard) != (lines(INDEX), SHARD)


@FAST
@given(
    st.binary(max_size=99)
    | torn("hq/p001.png, lq/p001.png\n".encode("utf-16"))
    | st.text(max_size=40).map(lambda text: f"hq/p001.png, {text}\n{text}\n".encode(errors="replace"))
)
@example(b"\0, \0\n" + b"k" * 5000 + b", b\n")
def test_text_files(root, content):
    (root / "pairs.txt").write_bytes(content)
    quietly(find_pairs, str(root / "pairs.txt"), "--data.pairs_dir")


@FAST
@given(st.lists(torn(lines({"source": "a.png", "reason": "torn"})), max_size=3).map(b"\n".join))
@example(b'{"source": "\\ud800", "reason": 3}\n')
def test_failures(root, content):
    folder = RunFolder(root, "any.yaml", "things")
    (root / "failures.rank0.jsonl").write_bytes(content)
    assert folder.join([]) == read_failures(root / "failures.jsonl")
    assert not (root / "failures.rank0.jsonl").exists()


@st.composite
def flipped(draw, content):
    """The bytes with one bit changed."""
    place, bit = draw(st.integers(0, len(content) - 1)), draw(st.integers(0, 7))
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


KEPT = encode_tensors(FEATURES)


@FAST
@given(
    torn(KEPT).filter(lambda content: content != KEPT)
    | flipped(KEPT)
    | st.sampled_from([FEATURES["fid"], torch.full((3, 4), torch.nan), torch.ones(2, 4), torch.ones(())]).map(
        lambda fid: save({"fid": fid})
    )
    | st.just(save(FEATURES | {"fid": torch.full((3, 4), torch.nan)}))
)
def test_cached_features(root, content):
    computed = {name: 2 * values for name, values in FEATURES.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root))
        arguments = [root / "hq" / "p001.png"], {"network": "tiny"}, lambda: computed, 3
        cached_features(*arguments)
        (kept,) = (root / "ddpm_pairs" / "features").iterdir()
        kept.write_bytes(content)
        found = cached_features(*arguments)
    assert all(torch.equal(found[name], computed[name]) for name in computed)
    assert kept.read_bytes() == encode_tensors(found)
