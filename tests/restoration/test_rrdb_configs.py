"""The shipped RRDB configs, through the command line, on tiny pairs."""

import cv2
import numpy as np
import pytest
import torch
import yaml
from few_steps import FEW_STEPS

from ddpm_pairs.cli import main as cli
from ddpm_pairs.restoration.networks.rrdb import RRDBNet
from ddpm_pairs.restoration.weights import load_restorer
from ddpm_pairs.shipped import shipped_config

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def pairs(tmp_path, photos, monkeypatch):
    """Eight pairs of 48x64 and 12x16 px."""
    monkeypatch.chdir(tmp_path)
    for folder in ("hq", "lq"):
        (tmp_path / "pairs" / folder).mkdir(parents=True)
    for number, photo in enumerate([*photos, *(np.fliplr(photo) for photo in photos)]):
        hq = cv2.resize(photo, (64, 48), interpolation=cv2.INTER_AREA)[..., ::-1]
        cv2.imwrite(str(tmp_path / "pairs" / "hq" / f"{number}.png"), hq)
        cv2.imwrite(
            str(tmp_path / "pairs" / "lq" / f"{number}.png"), cv2.resize(hq, (16, 12), interpolation=cv2.INTER_AREA)
        )
    return tmp_path / "pairs"


OPTIONS = {"config": "parts/debug_rrdb.yaml"} | FEW_STEPS


@pytest.mark.parametrize("name", [pytest.param("rrdb.yaml", marks=pytest.mark.slow), "rrdb_small.yaml"])
def test_two_steps_and_a_checkpoint_that_is_an_rrdb(pairs, tmp_path, name, capsys):
    words = ["fit", "--config", name, "--data.pairs_dir", str(pairs), "--output_dir", str(tmp_path / "run")]
    for option, value in OPTIONS.items():
        words += [f"--{option}", str(value)]
    assert cli.main(words) == 0, capsys.readouterr().err
    net = load_restorer(tmp_path / "run" / "last.ckpt")
    assert net.init_args == {"scale": 4, "nf": 8, "nb": 1, "gc": 32}
    checkpoint = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 2
    assert all(key.startswith("net.") for key in checkpoint["state_dict"])


def test_rrdb_yaml_holds_the_original_settings():
    config = yaml.safe_load(shipped_config("rrdb.yaml").read_text())
    model, data, trainer = config["model"]["init_args"], config["data"]["init_args"], config["trainer"]
    assert model["net"]["init_args"] == {"scale": 4, "nf": 64, "nb": 23, "gc": 32}
    assert (model["loss"], model["learning_rate"]) == ("l1", 2e-4)
    assert (data["crop_size"], data["batch_size"], data["rotate"]) == (256, 12, False)
    assert trainer["max_steps"] == 1_000_000
    assert trainer["callbacks"][0]["init_args"] == {"decay": 0.999, "every_n_steps": 1}


@pytest.fixture
def no_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_PAIRS_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def fail(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)


def small_gan(*words):
    sizes = ["--model.net.init_args.nf", "8", "--model.net.init_args.nb", "1", "--trainer.accelerator", "cpu"]
    return [words[0], "--config", "rrdb_gan.yaml", *words[1:], *sizes]


def test_missing_perceptual_weights_stop_a_fit_before_it_begins(pairs, tmp_path, no_weights, capsys):
    words = ["--data.pairs_dir", str(pairs), "--data.crop_size", "48", "--output_dir", str(tmp_path / "run")]
    assert cli.main(small_gan("fit", *words)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "the weights of VGG19 (perceptual loss) are missing" in error
    assert not (tmp_path / "run").exists()


def test_perceptual_weights_are_not_needed_to_restore(pairs, tmp_path, no_weights, capsys):
    torch.manual_seed(0)
    torch.save({"params": RRDBNet(2, nf=8, nb=1, gc=8).state_dict()}, tmp_path / "any.pth")
    words = ["--ckpt_path", str(tmp_path / "any.pth"), "--output_dir", str(tmp_path / "out")]
    words += ["--data.lq_dir", str(pairs / "lq"), "--data.num_workers", "0", "--trainer.enable_progress_bar", "false"]
    assert cli.main(small_gan("predict", *words)) == 0, capsys.readouterr().err
    # an x2 network whatever the config says
    assert cv2.imread(str(tmp_path / "out" / "restored" / "3.png")).shape == (24, 32, 3)
