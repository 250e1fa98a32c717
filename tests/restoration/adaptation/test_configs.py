"""The shipped configs of Noise-DA, through the command line, on tiny pairs and real images."""

import cv2
import numpy as np
import pytest
import torch
import yaml

from ddpm_pairs.cli import main as cli
from ddpm_pairs.restoration.networks.unet import RestorationUNet
from ddpm_pairs.restoration.weights import load_restorer
from ddpm_pairs.shipped import shipped_config

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
RRDB, UNET = "parts/debug_noise_da_rrdb.yaml", "parts/debug_noise_da_unet.yaml"


@pytest.fixture
def folders(tmp_path, photos, monkeypatch):
    """Eight pairs of 48x64 px at x1 and x4, and four real images."""
    monkeypatch.chdir(tmp_path)
    for number, photo in enumerate([*photos, *(np.fliplr(photo) for photo in photos)]):
        hq = np.ascontiguousarray(cv2.resize(photo, (64, 48), interpolation=cv2.INTER_AREA)[..., ::-1])
        for scale in (1, 4):
            lq = cv2.resize(hq, (64 // scale, 48 // scale), interpolation=cv2.INTER_AREA)
            for folder, image in (("hq", hq), ("lq", lq)):
                (tmp_path / f"x{scale}" / folder).mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(tmp_path / f"x{scale}" / folder / f"{number}.png"), image)
    (tmp_path / "real").mkdir()
    for number, photo in enumerate(photos):
        cv2.imwrite(str(tmp_path / "real" / f"{number}.png"), 255 - photo)
    return tmp_path


def fit(folders, name, part, scale, *more):
    words = ["fit", "--config", name, "--config", part, "--data.pairs_dir", f"x{scale}", "--data.lq_dir", "real"]
    few = {"max_steps": 2, "val_check_interval": 2, "accelerator": "cpu", "precision": "32-true"}
    few |= {"enable_progress_bar": "false", "enable_model_summary": "false"}
    words += [word for option, value in few.items() for word in (f"--trainer.{option}", str(value))]
    return cli.main([*words, "--output_dir", "run", *more])


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "part", "scale"),
    [
        ("noise_da_rrdb_small.yaml", RRDB, 4),
        ("noise_da_denoise_small.yaml", UNET, 1),
        pytest.param("noise_da_rrdb.yaml", RRDB, 4, marks=SLOW),
        pytest.param("noise_da_denoise.yaml", UNET, 1, marks=SLOW),
        pytest.param("noise_da_derain.yaml", UNET, 1, marks=SLOW),
        pytest.param("noise_da_deblur.yaml", UNET, 1, marks=SLOW),
    ],
)
def test_two_steps_then_predict_and_export(folders, name, part, scale, capsys):
    assert fit(folders, name, part, scale) == 0, capsys.readouterr().err
    net = load_restorer("run/last.ckpt")
    assert net.scale == scale
    assert not any(name.startswith("denoiser.") for name in net.state_dict())
    words = ["predict", "--config", name, "--config", part, "--ckpt_path", "run/last.ckpt", "--data.lq_dir", "real"]
    assert cli.main([*words, "--output_dir", "restored", "--trainer.accelerator", "cpu"]) == 0, capsys.readouterr().err
    assert len(list((folders / "restored").rglob("*.png"))) >= 4
    assert cli.main(["export", "run/last.ckpt", "restorer.safetensors"]) == 0
    assert load_restorer("restorer.safetensors").state_dict().keys() == net.state_dict().keys()


def test_vanilla_of_the_config_is_regression(folders, capsys):
    """Also the initial weights and the pairs are the same, whatever else the config names."""
    found = []
    overlay = {"class_path": "ddpm_pairs.restoration.Regression"}
    config = yaml.safe_load(shipped_config("noise_da_rrdb_small.yaml").read_text())
    arguments = config["model"]["init_args"]
    kept = ("net", "loss", "learning_rate", "warmup_steps", "cosine_decay")
    config["model"] = overlay | {"init_args": {name: arguments[name] for name in kept}}
    part = yaml.safe_load(shipped_config(RRDB).read_text())
    part["model"]["init_args"] = {"net": part["model"]["init_args"]["net"]}
    for name, content in (("plain.yaml", config), ("part.yaml", part)):
        (folders / name).write_text(yaml.safe_dump(content))
    for name, overlay, more in (
        ("noise_da_rrdb_small.yaml", RRDB, ("--model.mode", "vanilla")),
        (str(folders / "plain.yaml"), str(folders / "part.yaml"), ()),
    ):
        out = f"run{len(found)}"
        assert fit(folders, name, overlay, 4, *more, "--output_dir", out) == 0, capsys.readouterr().err
        found.append(torch.load(f"{out}/last.ckpt", weights_only=True)["state_dict"])
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], value) for name, value in found[1].items())


@pytest.mark.parametrize(
    ("name", "rate", "signed"),
    [("denoise", 1e-4, False), ("derain", 5e-5, True), ("deblur", 5e-5, True)],
)
def test_published_settings(name, rate, signed):
    config = yaml.safe_load(shipped_config(f"noise_da_{name}.yaml").read_text())
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    assert (model["learning_rate"], model["signed"], model["betas"]) == (rate, signed, [0.9, 0.999])
    assert (model["loss"], model["margin"], model["weight"], model["ramp"]) == ("charbonnier", 0.1, 0.2, 300)
    assert (data["crop_size"], data["batch_size"]) == (128, 24)
    assert config["trainer"]["callbacks"][0]["init_args"] == {"decay": 0.9999, "every_n_steps": 1}
    assert model["net"]["init_args"] == RestorationUNet().init_args
