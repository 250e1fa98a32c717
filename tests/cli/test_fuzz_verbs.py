"""Verbs on folders of any content: status 0, 1, or 2, no traceback, and nothing outside changed."""

import json
import shutil

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mutations import changed, torn
from PIL import Image

from ddpm_pairs.cli.main import main

CASES = settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
CASES = settings(CASES, phases=[Phase.generate])  # shrinking would take minutes
WORDS = ["--config", "pairs_natural.yaml", "--model.t_max", "0", "--model.threads", "1", "--data.num_workers", "0"]
WORDS += ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
NAMES = ["manifest.jsonl", "run.yaml", "failures.jsonl", "meta_info.txt", "manifest.rank0.jsonl", ".lock"]
NAMES += ["contact_sheet.png", "run.yaml.tmp", "hq/a.png", "lq/b.png"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two HQ images and their pairs."""
    place = tmp_path_factory.mktemp("verbs")
    (place / "hq").mkdir()
    (place / "outside").mkdir()
    (place / "outside" / "keep.png").write_bytes(b"mine")
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    for name in ("a", "b"):
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).save(place / "hq" / f"{name}.png")
    assert main(["predict", *WORDS, "--data.hq_dir", str(place / "hq"), "--output_dir", str(place / "made")]) == 0
    return place


def contents(folder):
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@st.composite
def damage(draw, made):
    """Names of files with new contents, or with the target of a link."""
    files = {}
    for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True)):
        content = (made / name).read_bytes() if (made / name).is_file() else b""
        kind = draw(st.sampled_from(["torn", "changed", "link"]))
        if kind == "link":
            files[name] = draw(st.sampled_from(["../outside/keep.png", "../outside/new", "/dev/zero", "../outside"]))
        elif kind == "changed" and name == "run.yaml":
            text = yaml.safe_dump(draw(changed(yaml.safe_load(content))))
            files[name] = text.encode(errors="replace")
        elif kind == "changed" and name == "manifest.jsonl":
            lines = [draw(changed(json.loads(line))) for line in content.splitlines()]
            files[name] = "".join(json.dumps(line) + "\n" for line in lines).encode()
        else:
            files[name] = draw(torn(content))
    return files


def check(place, files, verbs):
    outside = contents(place / "outside") | contents(place / "hq")
    for verb in verbs:
        pairs = place / "pairs"
        shutil.rmtree(pairs, ignore_errors=True)
        shutil.copytree(place / "made", pairs)
        for name, content in files.items():
            (pairs / name).unlink(missing_ok=True)
            if isinstance(content, bytes):
                (pairs / name).write_bytes(content)
            else:
                (pairs / name).symlink_to(content)
        words = [word.format(pairs=pairs, hq=place / "hq", out=place / "out") for word in verb]
        try:
            status = main(words)
        except SystemExit as error:
            status = error.code
        assert status in (0, 1, 2), words
        assert contents(place / "outside") | contents(place / "hq") == outside, words
        shutil.rmtree(place / "out", ignore_errors=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@CASES
@given(data=st.data())
def test_verbs_on_damaged_pairs_folders(place, data):
    verbs = [
        ["verify", "{pairs}"],
        ["verify", "{pairs}", "--fix"],
        ["merge", "{pairs}"],
        ["pack", "{pairs}", "{out}", "--format", "webdataset"],
        ["pack", "{pairs}", "{out}", "--format", "folder", "--flat"],
        ["remake", "{pairs}", "a", "--output_dir", "{out}"],
        ["predict", *WORDS, "--data.hq_dir", "{hq}", "--output_dir", "{pairs}"],
        ["preview", "--degradation", "bicubic", "--data.hq_dir", "{pairs}/hq", "--output_dir", "{out}", "--draws", "1"],
        ["score", "{pairs}/hq", "{hq}", "--output_dir", "{out}", "--metrics", "psnr"],
    ]
    check(place, data.draw(damage(place / "made")), verbs)
