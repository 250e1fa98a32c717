"""``lightning test --config ablation.yaml``."""

import csv
import json
import shlex
import subprocess
import sys

import numpy as np
import pytest
import skimage.data
import yaml
from PIL import Image
from tiny_ddpm import save_safetensors, tiny_denoiser

from ddpm_pairs.cli.main import main
from ddpm_pairs.images.decode import decode_picture


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Seven HQ pictures of two sizes, ten LQ pictures and a checkpoint."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    photo, other = skimage.data.astronaut(), skimage.data.coffee()
    for name in ("hq", "lq"):
        (tmp_path / name).mkdir()
    for number in range(7):
        side = 128 if number % 2 else 144
        Image.fromarray(photo[40 * number :][:128, 30 * number :][:, :side]).save(tmp_path / "hq" / f"{number}.png")
    for number in range(10):
        Image.fromarray(other[30 * number :][:40, 50 * number :][:, :44]).save(tmp_path / "lq" / f"{number}.png")
    save_safetensors(tiny_denoiser(), tmp_path / "tiny.safetensors")
    return tmp_path


WORDS = [
    *(
        "test",
        "--config",
        "ablation.yaml",
        "--ckpt_path",
        "tiny.safetensors",
        "--data.hq_dir",
        "hq",
        "--data.lq_dir",
        "lq",
    ),
    *("--data.num_workers", "0", "--model.ts", "[0,10,60,100]", "--model.patch", "32"),
    *("--model.features", "random"),
    *("--model.threads", "1", "--model.precision", "fp32"),
    *("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"),
    *("--output_dir", "study"),
]


def cells(folder):
    with (folder / "ablation.csv").open() as file:
        return list(csv.DictReader(file))


def test_study_of_a_checkpoint(place, capsys):
    assert main(WORDS) == 0
    rows = cells(place / "study")
    assert [(row["degradation"], int(row["t"])) for row in rows] == [
        (name, t) for name in ("real_esrgan", "bicubic") for t in (0, 10, 60)
    ]
    assert {row["n"] for row in rows} == {"7"}
    assert rows[0]["logsnr"] == ""
    assert float(rows[1]["logsnr"]) > float(rows[2]["logsnr"])
    printed = capsys.readouterr().out
    assert "skipped t beyond the checkpoint's t_max: 100" in printed
    recommended = json.loads((place / "study" / "recommendation.json").read_text())
    assert recommended["command"] in printed.replace("\n", "")


@pytest.mark.slow
def test_lq_and_psnr_are_those_of_predict(place):
    assert main([*WORDS, "--model.degradations", "[real_esrgan]", "--model.ts", "[60]"]) == 0
    words = "predict --config pairs_natural.yaml --ckpt_path tiny.safetensors --data.hq_dir hq --model.threads 1"
    words += " --model.precision fp32 --model.degradation real_esrgan"
    words += " --model.t_min 60 --model.t_max 60 --output_dir pairs --trainer.accelerator cpu --data.num_workers 0"
    assert main(words.split()) == 0
    lines = [json.loads(line) for line in (place / "pairs" / "manifest.jsonl").read_text().splitlines()]
    (start, walked) = cells(place / "study")
    assert float(walked["psnr"]) == pytest.approx(np.mean([line["psnr"] for line in lines]), abs=1e-3)
    assert float(start["psnr"]) == pytest.approx(np.mean([line["psnr_initial"] for line in lines]), abs=1e-3)
    from ddpm_pairs.study.folder import StudyFolder

    folder = StudyFolder(place / "study")
    for line in lines:
        patch = folder.load(line["key"]).patches[0, -1].permute(1, 2, 0).numpy()
        lq = decode_picture(place / "pairs" / line["lq"])
        places = np.lib.stride_tricks.sliding_window_view(lq, patch.shape).reshape(-1, *patch.shape)
        assert any(np.array_equal(patch, one) for one in places)


OWN = """
import torch


class Mist:
    name = "mist"

    def __init__(self, most: float = 0.5):
        self.scale, self.most = 4, most

    def draw(self, generator):
        return {"mist": float(torch.rand((), generator=generator)) * self.most}

    def apply(self, hq, parameters):
        mist = torch.tensor([one["mist"] for one in parameters]).view(-1, 1, 1, 1)
        return ((hq[..., ::4, ::4] * (1 - mist) + mist) * 255).round() / 255
"""


@pytest.mark.slow
def test_a_class_a_chain_a_calibrated_start_and_a_name_side_by_side(place, capsys, monkeypatch):
    (place / "own_study.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(place))
    gains = {"class_path": "ddpm_pairs.degradations.BandGain", "init_args": {"luma": [1.0, 0.4], "chroma": [1.0, 0.2]}}
    chain = {"class_path": "ddpm_pairs.degradations.Chain", "init_args": {"scale": 4, "operations": [gains]}}
    (place / "start.yaml").write_text(yaml.safe_dump({"model": {"degradation": chain}}))  # as `calibrate` writes it
    own = "{class_path: own_study.Mist, init_args: {most: 0.2}}"
    asked = ["--model.degradations", f"[{own}, pairs_own_chain.yaml, start.yaml, bicubic, own_study.Mist]"]
    assert main([*WORDS, *asked, "--model.ts", "[20]"]) == 0
    names = ["mist", "pairs_own_chain", "start", "bicubic", "mist-2"]
    assert [(row["degradation"], row["t"]) for row in cells(place / "study")] == [
        (n, t) for n in names for t in ("0", "20")
    ]
    command = json.loads((place / "study" / "recommendation.json").read_text())["command"]
    words = shlex.split(command)
    chosen = words[words.index("--model.degradation") + 1]
    assert chosen in ("pairs_own_chain.yaml", "start.yaml", "bicubic", "own_study.Mist") or json.loads(chosen)
    # the very command, with the words as they were typed
    options = ["--trainer.accelerator", "cpu", "--data.num_workers", "0", "--model.threads", "1"]
    assert main([*words[1:], *options]) == 0
    assert main([*WORDS, *asked[:1], "[bicubic, pairs.yaml]"]) == 2
    assert "--model.degradations: got different scales" in capsys.readouterr().err


@pytest.mark.slow
def test_it_goes_on_by_picture_and_refuses_other_settings(place, capsys):
    assert main(WORDS) == 0
    before = {name: (place / "study" / name).read_bytes() for name in ("ablation.csv", "recommendation.json")}
    files = sorted((place / "study" / "pictures").iterdir())
    times = {path: path.stat().st_mtime_ns for path in files}
    files[2].unlink()
    for name in before:
        (place / "study" / name).unlink()
    assert main(WORDS) == 0
    assert {name: (place / "study" / name).read_bytes() for name in before} == before
    again = {path: path.stat().st_mtime_ns for path in files}
    assert [path for path in files if again[path] != times[path]] == [files[2]]
    assert main([*WORDS, "--model.patch", "24"]) == 2
    assert "contains a t study made with different settings (patch 32 -> 24)" in capsys.readouterr().err
    settings = json.loads((place / "study" / "study.json").read_text())
    del settings["starts"]
    (place / "study" / "study.json").write_text(json.dumps(settings | {"preset": "natural"}))  # as version 0.1 wrote it
    assert main(WORDS) == 2
    assert "was started by an older version, which drew noise differently" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--ckpt_path", "null"], "--ckpt_path is missing"),
        (["--model.patch", "200"], "--data.hq_dir: got 0 images of 800 px or more per side"),
        (["--model.ts", "[-1]"], "--model.ts: got [-1]; expected steps of 0 or more"),
        (["--model.pictures", "2"], "--model.pictures: got 2; expected 4 or more"),
        (["--model.degradations", "[bicubic,sharp]"], "degradation: got 'sharp'"),
        (["--data.lq_dir", "hq/nowhere"], "--data.lq_dir"),
    ],
)
def test_wrong_words_are_one_line(place, capsys, words, line):
    assert main([*WORDS, *words]) == 2
    printed = capsys.readouterr().err
    assert line in printed
    assert printed.count("\n") == 1
    assert not (place / "study").exists()


@pytest.mark.slow
def test_two_ranks_give_the_table_of_one(place):
    assert main(WORDS) == 0
    words = [*WORDS, "--output_dir", "two", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    command = [sys.executable, "-m", "ddpm_pairs", *words]
    completed = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=300)
    assert completed.returncode == 0, completed.stderr
    assert (place / "two" / "ablation.csv").read_bytes() == (place / "study" / "ablation.csv").read_bytes()


@pytest.mark.filterwarnings("ignore:.*cannot be read")
@pytest.mark.parametrize("name", ["study.json", "pictures", "cache"])
def test_torn_leftovers_are_made_again(place, name):
    words = [*WORDS, "--model.ts", "[0,60]", "--model.degradations", "[bicubic]"]
    assert main(words) == 0
    whole = {path.name: path.read_bytes() for path in (place / "study").rglob("*.csv")}
    if name == "study.json":
        (place / "study" / name).write_bytes(b"")
    for path in (place / ("study" if name == "pictures" else name)).rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-7])
    assert main(words) == 0
    assert {path.name: path.read_bytes() for path in (place / "study").rglob("*.csv")} == whole
