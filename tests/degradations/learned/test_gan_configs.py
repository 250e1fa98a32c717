"""The shipped configs of learned degradations through the command line, and their originals' settings."""

import cv2
import pytest
import torch
import yaml
from few_steps import FEW_STEPS

from ddpm_pairs.callbacks import LearnedSamples
from ddpm_pairs.cli import main as cli
from ddpm_pairs.degradations import by_name
from ddpm_pairs.shipped import shipped_config

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")

OPTIONS = FEW_STEPS | {
    "data.num_workers": 0,
}


@pytest.fixture
def folders(tmp_path, photos, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, side in (("hq", 128), ("lq", 48)):
        (tmp_path / name).mkdir()
        for number, photo in enumerate(photos):
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), photo[:side, :side, ::-1])
    return tmp_path


def fit(name, *overlays, **options):
    words = ["fit", "--config", name, *(word for one in overlays for word in ("--config", one))]
    for option, value in ({"data.hq_dir": "hq", "data.lq_dir": "lq"} | OPTIONS | options).items():
        words += [f"--{option}", str(value)]
    return cli.main(words)


@pytest.mark.parametrize(
    "name",
    ["dsgan_small", *(pytest.param(one, marks=pytest.mark.slow) for one in ("pdm_small", "dsgan", "dasr", "pdm"))],
)
def test_a_fit_makes_a_degradation(name, folders, capsys):
    assert fit(f"{name}.yaml", "parts/debug_gan.yaml") == 0, capsys.readouterr().err
    saved = torch.load(f"runs/{name}/last.ckpt", weights_only=True)
    assert not any(key.startswith("perceptual") for key in saved["state_dict"])
    degradation = by_name(f"runs/{name}/last.ckpt")
    assert (degradation.name, degradation.scale) == (name.split("_")[0], 4)
    assert degradation.training["steps"] == 2 and degradation.training["lq_dir"] == "lq"
    assert LearnedSamples.__name__ in saved["callbacks"]


def test_what_does_not_fit_ends_in_one_line(folders, capsys):
    for options, said in (
        ({"data.scale": 2, "data.crop_size": 64}, "--data.scale: got 2; expected 4"),
        ({"data.crop_size": 64}, "--data.crop_size: got 64; expected a multiple of 4, 128 or more"),
        ({"model.decay_from": 2}, "--model.decay_from: got 2; expected less than --trainer.max_steps, which is 2"),
    ):
        assert fit("dsgan_small.yaml", "parts/debug_gan.yaml", **options) == 2
        assert said in capsys.readouterr().err


def settings(name):
    return yaml.safe_load(shipped_config(name).read_text())


@pytest.mark.parametrize(
    ("name", "adversarial", "rate", "batch", "crop"),
    [
        ("dsgan.yaml", ("logistic", 0.005), 2e-4, 16, 512),
        ("dasr.yaml", ("logistic", 0.005), 1e-4, 8, 256),
        ("pdm.yaml", ("least_squares", 1.0), 2e-4, 32, 192),
    ],
)
def test_original_settings(name, adversarial, rate, batch, crop):
    config = settings(name)
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    assert (model["adversarial_loss"], model["adversarial_weight"]) == adversarial
    assert model["learning_rate"] == rate
    assert (data["batch_size"], data["crop_size"]) == (batch, crop)


def test_schedules_follow_from_epochs():
    """Of 3,450 images, rounded up to whole batches."""
    for name, epochs, decayed in (("dsgan.yaml", 300, 150), ("dasr.yaml", 400, 150)):
        config = settings(name)
        steps = -(-3450 // config["data"]["init_args"]["batch_size"])
        assert config["trainer"]["max_steps"] == epochs * steps
        assert config["model"]["init_args"]["decay_from"] == (epochs - decayed) * steps
    assert settings("pdm.yaml")["model"]["init_args"]["halve_at"] == [50_000, 100_000, 150_000]
