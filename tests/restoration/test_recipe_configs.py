"""The configs of restorers of learned degradations through the command line, and their originals' settings."""

from pathlib import Path

import cv2
import pytest
import torch
import yaml
from few_steps import FEW_STEPS
from safetensors.torch import load_file
from tiny_gan import save_domain
from tiny_learned import small_pdm

from ddpm_pairs.cli import main as cli
from ddpm_pairs.degradations.learned.discriminators import PatchDiscriminator
from ddpm_pairs.degradations.learned.files import save_synthesizer
from ddpm_pairs.restoration.networks.rrdb import RRDBNet
from ddpm_pairs.restoration.weights import load_restorer
from ddpm_pairs.shipped import shipped_config

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")

PAIRS = {"data.pairs_dir": "pairs"}
DATA = {
    "dsgan": PAIRS,
    "dasr": PAIRS | {"data.lq_dir": "real", "model.domain_from": "dasr.ckpt", "model.domain.init_args.widths": "[4,4]"},
    "pdm": {"data.hq_dir": "pairs/hq", "data.degradation": "pdm.safetensors"},
    "f2n": {"data.pairs_dir": "[pairs,pairs_1,pairs_2]", "data.mix": "[0.5,0.2,0.3]"},
}


@pytest.fixture
def folders(tmp_path, photos, monkeypatch):
    """Three folders of pairs of 64 and 16 px, real LQ of 24 px, a discriminator of DASR, and a PDM."""
    monkeypatch.chdir(tmp_path)
    sides = {f"pairs{end}/{side}": px for end in ("", "_1", "_2") for side, px in (("hq", 64), ("lq", 16))}
    for folder, side in (sides | {"real": 24}).items():
        (tmp_path / folder).mkdir(parents=True)
        for number, photo in enumerate(photos):
            small = cv2.resize(photo[:96, :96, ::-1], (side, side), interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(tmp_path / folder / f"{number}.png"), small)
    torch.manual_seed(0)
    save_domain(PatchDiscriminator("haar", (4, 4), norm="instance"), tmp_path / "dasr.ckpt")
    save_synthesizer(small_pdm(), tmp_path / "pdm.safetensors", {})


def fit(name, **options):
    words = ["fit", "--config", f"{name}.yaml"]
    for overlay in ("debug_rrdb", "debug_rrdb_gan" if name.startswith("rrdb_f2n") else "debug_rrdb_patch"):
        words += ["--config", f"parts/{overlay}.yaml"]
    for option, value in (DATA[name.split("_")[1]] | FEW_STEPS | options).items():
        words += [f"--{option}", str(value)]
    return cli.main(words)


@pytest.mark.parametrize("name", [f"rrdb_{one}{size}" for one in DATA for size in ("", "_small")])
def test_a_fit_makes_a_restorer(name, folders, capsys):
    assert fit(name) == 0, capsys.readouterr().err
    checkpoint = f"runs/{name}/last.ckpt"
    saved = torch.load(checkpoint, weights_only=True)
    assert saved["ddpm_pairs"] == {"kind": "restorer"} and saved["global_step"] == 2
    parts = {key.split(".")[0] for key in (*saved["state_dict"], *saved.get("current_model_state", ()))}
    assert parts <= {"net", "discriminator", "mean_path_length"}
    assert load_restorer(checkpoint).init_args == {"scale": 4, "nf": 8, "nb": 1, "gc": 32}
    assert cli.main(["export", checkpoint, "net.safetensors"]) == 0, capsys.readouterr().err
    assert load_file("net.safetensors").keys() == RRDBNet(4, 8, 1, 32).state_dict().keys()


def test_dasr_needs_its_discriminator_and_real_lq(folders, capsys):
    for options, said in (
        ({"model.domain_from": "missing.ckpt"}, "missing.ckpt does not exist"),
        ({"model.domain_from": "pdm.safetensors"}, "domain_from pdm.safetensors does not fit the PatchDiscriminator"),
        ({"data.crop_size": 44}, "--data.crop_size: got 44; expected a multiple of 8"),
    ):
        assert fit("rrdb_dasr_small", **options) == 2
        assert said in capsys.readouterr().err
    Path("real.yaml").write_text("data:\n  class_path: ddpm_pairs.data.RestorationPairs\n")
    words = ["fit", "--config", "rrdb_dasr_small.yaml", "--config", "real.yaml", "--data.pairs_dir", "pairs"]
    assert cli.main([*words, "--data.crop_size", "48", "--model.perceptual.features", "random"]) == 2
    assert "--data: got RestorationPairs; expected AdaptationImages" in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("name", "pixel", "perceptual", "adversarial", "rate", "halved", "steps", "batch"),
    [
        ("dsgan", 0.01, 1, ("relativistic", 0.005), 1e-4, [5_000, 10_000, 20_000, 30_000], 60_000, (16, 128)),
        ("dasr", 1, 1, ("logistic", 0.01 * 0.01), 1e-5, [10_000, 80_000, 100_000, 150_000], 350_000, (4, 128)),
        ("pdm", 1, 0.05, ("least_squares", 0.05), 2e-4, [50_000, 100_000, 150_000], 200_000, (32, 192)),
        ("f2n", 1, 1, ("logistic", 0.1), 1e-4, [600_000, 700_000], 160_000, (12, 256)),
    ],
)
def test_original_settings(name, pixel, perceptual, adversarial, rate, halved, steps, batch):
    config = yaml.safe_load(shipped_config(f"rrdb_{name}.yaml").read_text())
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    assert model["net"]["init_args"] == {"scale": 4, "nf": 64, "nb": 23, "gc": 32}
    assert (model["pixel_weight"], model["perceptual_weight"]) == (pixel, perceptual)
    assert model.get("style_weight", 0) == (0.1 if name == "f2n" else 0)
    assert (model.get("adversarial_loss", "logistic"), pytest.approx(model["adversarial_weight"])) == adversarial
    assert (model["learning_rate"], model["halve_at"]) == (rate, halved)
    assert config["trainer"]["max_steps"] == steps
    assert (data["batch_size"], data["crop_size"]) == batch
