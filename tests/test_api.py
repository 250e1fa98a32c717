"""The Python interface gives what the commands and independent references give."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio
from tiny_ddpm import save_ckpt, tiny_denoiser

import ddpm_pairs
from ddpm_pairs.cli.main import main
from ddpm_pairs.errors import UserError


@pytest.fixture
def place(tmp_path, photos, monkeypatch):
    """A folder with ``HQ/``: four photographs of 128x96 px, and a checkpoint."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "HQ").mkdir()
    for number, photo in enumerate(photos):
        Image.fromarray(photo).save(tmp_path / "HQ" / f"{number}.png")
    save_ckpt(tiny_denoiser(), tmp_path / "tiny.ckpt")
    return tmp_path


def walk(t=(10, 50)):
    return ddpm_pairs.Walk(ddpm_pairs.Bicubic(scale=4), ddpm_pairs.load_ddpm("tiny.ckpt"), t=t)


def as_batch(path):
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None].float() / 255


def test_import_is_light_and_names_are_there():
    code = (
        "import ddpm_pairs, sys; print(*dir(ddpm_pairs)); assert not {'torch', 'numpy', 'lightning'} & set(sys.modules)"
    )
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert set(names) >= set(ddpm_pairs.__all__)
    assert all(getattr(ddpm_pairs, name) is not None for name in ddpm_pairs.__all__)
    with pytest.raises(AttributeError, match="attribute nonsense"):
        _ = ddpm_pairs.nonsense


def test_lq_of_a_folder_are_those_of_a_batch(place, pixels):
    degrade = walk()
    made = ddpm_pairs.make_pairs("HQ", "pairs", degrade, seed=5, num_workers=0)
    assert made.made == 4 and made.failures == []
    for key in "0123":
        lq = degrade(as_batch(place / "HQ" / f"{key}.png"), seed=5, keys=[key])
        expected = (lq[0] * 255).round().permute(1, 2, 0).numpy()
        assert np.array_equal(expected, pixels(place / "pairs" / "lq" / f"{key}.png"))
    lines = [json.loads(line) for line in (place / "pairs" / "manifest.jsonl").open()]
    assert all(10 <= line["t"] <= 50 and line["accepted"] for line in lines)
    assert (place / "pairs" / "contact_sheet.png").is_file()


def test_pairs_are_those_of_the_command(place, content):
    ddpm_pairs.make_pairs("HQ", "ours", ddpm_pairs.RealESRGAN(scale=4), seed=3, num_workers=0)
    words = "predict --config pairs_natural.yaml --model.degradation real_esrgan --model.t_max 0 --seed_everything 3"
    words += " --data.hq_dir HQ --output_dir theirs --data.num_workers 0 --trainer.accelerator cpu"
    assert main(words.split()) == 0
    assert content(place / "ours") == content(place / "theirs")


def test_pairs_are_resumed_remade_and_refused(place):
    ddpm_pairs.make_pairs("HQ", "pairs", walk(), num_workers=0)
    assert ddpm_pairs.make_pairs("HQ", "pairs", walk(), num_workers=0).made == 0
    assert main(["remake", "pairs", "2", "--ckpt_path", "tiny.ckpt"]) == 0
    with pytest.raises(UserError, match="pairs"):
        ddpm_pairs.make_pairs("HQ", "pairs", walk((10, 40)), num_workers=0)


def test_restored_images_are_those_of_the_command(place, pixels):
    weights = ddpm_pairs.__path__[0] + "/../results/study_b/rrdb_pairs.safetensors"
    for photo in (place / "HQ").iterdir():
        Image.open(photo).resize((32, 24)).save(place / photo.name)
    (place / "LQ").mkdir()
    for photo in place.glob("*.png"):
        photo.rename(place / "LQ" / photo.name)
    done = ddpm_pairs.restore("LQ", "ours", weights, num_workers=0)
    assert done.made == 4 and done.failures == []
    words = f"predict --config rrdb.yaml --ckpt_path {weights} --data.lq_dir LQ --output_dir theirs"
    assert main([*words.split(), "--data.num_workers", "0", "--trainer.accelerator", "cpu"]) == 0
    for key in "0123":
        ours, theirs = (pixels(place / name / "restored" / f"{key}.png") for name in ("ours", "theirs"))
        assert ours.shape == (96, 128, 3) and np.array_equal(ours, theirs)


def test_scores_are_those_of_another_implementation(place, photos):
    (place / "noisy").mkdir()
    noise = np.random.default_rng(0)
    expected = []
    for number, photo in enumerate(photos):
        noisy = np.clip(photo + noise.normal(0, 8, photo.shape), 0, 255).round().astype(np.uint8)
        Image.fromarray(noisy).save(place / "noisy" / f"{number}.png")
        expected.append(peak_signal_noise_ratio(photo, noisy))
    found = ddpm_pairs.score("noisy", "HQ", metrics=("psnr",), output_dir="scores", device="cpu")
    assert found.values["psnr"] == pytest.approx(np.mean(expected), abs=1e-4) and found.n == 4
    assert json.loads((place / "scores" / "metrics.json").read_text())["psnr"] == found.values["psnr"]
    with pytest.raises(UserError, match="metrics: got 'fud'; expected some of fid,"):
        ddpm_pairs.score("noisy", "HQ", metrics=("fud",))


def test_weights_that_are_not_there(place):
    with pytest.raises(UserError, match="blind_camera"):
        ddpm_pairs.load_ddpm("nonsense")


@pytest.mark.parametrize("device", ["tpu", "", "cuda:x", "mps", 5])
def test_unknown_devices_are_refused(tmp_path, device):
    (tmp_path / "hq").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "hq" / "a.png")
    for call in (
        lambda: ddpm_pairs.make_pairs(tmp_path / "hq", tmp_path / "out", "bicubic", device=device),
        lambda: ddpm_pairs.score(tmp_path / "hq", tmp_path / "hq", metrics=("psnr",), device=device),
    ):
        with pytest.raises(UserError, match="device: got .*; expected cpu or cuda"):
            call()
    assert not (tmp_path / "out").exists()


def test_a_gpu_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="but this machine has"):
        ddpm_pairs.score(tmp_path, tmp_path, metrics=("psnr",), device="cuda:99")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"t": 5}, "Walk.t: got 5"),
        ({"t": (1, 2, 3)}, "Walk.t: got"),
        ({"t": (0.5, 3)}, "Walk.t: got"),
        ({"t": "ab"}, "Walk.t: got 'ab'"),
        ({"tile": 0}, "Walk.tile: got 0; expected 64"),
        ({"tile": 99.5}, "Walk.tile: got 99.5"),
    ],
)
def test_arguments_of_a_walk_are_checked(options, said):
    with pytest.raises(UserError, match=said):
        ddpm_pairs.Walk(ddpm_pairs.Bicubic(4), tiny_denoiser(), **options)
