"""Pairs made on the GPU by the commands that a user types."""

import json

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from ddpm_pairs.cli.main import main

OPTIONS = "--config pairs_natural.yaml --ckpt_path blind_camera --data.num_workers 0 --model.degradation real_esrgan"

pytestmark = pytest.mark.gpu


@pytest.fixture
def predict_on(device, tmp_path):
    """``predict`` on the device; the folder that it made."""
    accelerator = {"cuda": "gpu", "cpu": "cpu"}[device.type]
    quick = [] if device.type == "cuda" else ["--model.num_steps", "2", "--model.slots", "4"]

    def run(hq_dir, name, *words):
        out = tmp_path / name
        typed = ["predict", *OPTIONS.split(), "--data.hq_dir", str(hq_dir), "--output_dir", str(out), *quick, *words]
        assert main([*typed, "--trainer.accelerator", accelerator, "--trainer.devices", "1"]) == 0
        return out

    return run


def keys(pairs):
    return [json.loads(line)["key"] for line in (pairs / "manifest.jsonl").open()]


def lq(pairs):
    return {key: np.asarray(Image.open(pairs / "lq" / f"{key}.png")) for key in keys(pairs)}


@pytest.fixture
def photographs(tmp_path, photos):
    """Six HQ images of two sizes."""
    (tmp_path / "hq").mkdir()
    for number in range(6):
        photo = Image.fromarray(photos[number % 4]).resize((256, 256 - 64 * (number % 2)), Image.Resampling.BICUBIC)
        photo.transpose(Image.Transpose(number // 4)).save(tmp_path / "hq" / f"{number}.png")
    return tmp_path / "hq"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_pair_is_remade_bit_for_bit(predict_on, photographs, capsys, precision):
    pairs = predict_on(photographs, "pairs", "--model.precision", precision)
    assert len(keys(pairs)) == 6
    assert [main(["remake", str(pairs), key]) for key in keys(pairs)] == [0] * 6
    assert capsys.readouterr().out.count("in every pixel") == 6


def test_a_pair_does_not_depend_on_the_others(predict_on, photographs):
    everything = lq(predict_on(photographs, "all"))
    for number in (0, 3):
        (photographs / f"{number}.png").unlink()
    some = lq(predict_on(photographs, "some"))
    assert len(some) == 4
    assert all(np.array_equal(image, everything[key]) for key, image in some.items())


def test_bf16_changes_little(predict_on, photographs):
    fine, coarse = (lq(predict_on(photographs, name, "--model.precision", name)) for name in ("fp32", "bf16"))
    assert any(not np.array_equal(image, coarse[key]) for key, image in fine.items())
    assert min(peak_signal_noise_ratio(image, coarse[key]) for key, image in fine.items()) > 35
