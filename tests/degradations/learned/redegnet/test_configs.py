"""The configs of ReDegNet through the command line, from faces to pairs, and the released settings."""

from pathlib import Path

import cv2
import pytest
import torch
import yaml
from few_steps import FEW_STEPS

from ddpm_pairs.callbacks import CodeSamples
from ddpm_pairs.cli import main as cli
from ddpm_pairs.degradations.learned.redegnet.reader import load_reader
from ddpm_pairs.shipped import shipped_config

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


@pytest.fixture
def folders(tmp_path, photos, monkeypatch):
    """Faces of 80 px with LQ of 20 px, and natural HQ of 96 px."""
    monkeypatch.chdir(tmp_path)
    for folder, side in (("faces/hq", 80), ("faces/lq", 20), ("HQ", 96)):
        (tmp_path / folder).mkdir(parents=True)
        for number, photo in enumerate(photos):
            small = cv2.resize(photo[:160, :160, ::-1], (side, side), interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(tmp_path / folder / f"{number}.png"), small)


def fit(name, **options):
    words = ["fit", "--config", f"{name}.yaml", "--config", "parts/debug_redegnet.yaml"]
    places = {"data.faces_dir": "faces", "data.hq_dir": "HQ"}
    for option, value in (places | FEW_STEPS | options).items():
        words += [f"--{option}", str(value)]
    return cli.main(words)


@pytest.mark.parametrize("name", ["redegnet_small", pytest.param("redegnet", marks=pytest.mark.slow)])
def test_from_faces_to_pairs(name, folders, capsys):
    assert fit(name) == 0, capsys.readouterr().err
    checkpoint = f"runs/{name}/last.ckpt"
    saved = torch.load(checkpoint, weights_only=True)
    parts = {key.split(".")[0] for key in saved["state_dict"]}
    assert saved["global_step"] == 2 and parts == {"net", "discriminator"}
    net, training = load_reader(checkpoint)
    assert net.size == 64 and training["faces_dir"] == "faces" and training["hq_dir"] == "HQ"
    assert CodeSamples.__name__ in saved["callbacks"]
    assert cli.main(["bank", checkpoint, "faces", "bank.safetensors"]) == 0, capsys.readouterr().err
    words = ["predict", "--config", "pairs_natural.yaml", "--model.degradation", "bank.safetensors"]
    words += ["--model.t_max", "0", "--data.hq_dir", "HQ", "--output_dir", "pairs", "--trainer.accelerator", "cpu"]
    assert cli.main(words) == 0, capsys.readouterr().err
    assert cli.main(["verify", "pairs"]) == 0


def test_what_does_not_fit_ends_in_one_line(folders, capsys):
    for options, said in (
        ({"data.crop_size": 32}, "--data.crop_size: got 32; expected 64, the size of --model.net"),
        ({"model.crossing": 2}, "--model.crossing: got 2.0; expected 0 to 1"),
        ({"data.faces_dir": "HQ"}, "--data.restorer"),
    ):
        assert fit("redegnet_small", **options) == 2
        text = capsys.readouterr().err
        assert said in text and len(text.strip().splitlines()) == 1
    assert not Path("runs").exists()


def test_released_settings():
    config = yaml.safe_load(shipped_config("redegnet.yaml").read_text())
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    assert model["net"]["init_args"] == {"width": 64, "levels": 6, "code": 512}
    weights = {name: model[f"{name}_weight"] for name in ("pixel", "perceptual", "same", "adversarial")}
    assert weights == {"pixel": 10, "perceptual": 0.2, "same": 100, "adversarial": 0.01}
    assert model["style_weight"] == pytest.approx(160 / 3, rel=1e-3)
    assert model["perceptual"]["init_args"] == {"features": "vgg19", "layers": [2, 1.2, 0.6, 0.2, 0.1]}
    assert (model["crossing"], model["learning_rate"], model["halve_at"]) == (0.8, 1e-4, [600_000, 700_000])
    assert (data["crop_size"], data["batch_size"]) == (256, 12)
    assert config["trainer"]["max_steps"] == 160_000
    assert not any("EMA" in callback["class_path"] for callback in config["trainer"]["callbacks"])
