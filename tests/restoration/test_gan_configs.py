"""The shipped adversarial configs through the command line: a prior, GPEN started from it, and RRDB's second phase."""

import cv2
import numpy as np
import pytest
import torch
import yaml
from few_steps import FEW_STEPS

from ddpm_pairs.cli import main as cli
from ddpm_pairs.restoration.weights import load_restorer
from ddpm_pairs.shipped import shipped_config

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def faces(folder, photos, side, scale):
    for part, sides in (("hq", side), ("lq", side // scale)):
        (folder / part).mkdir(parents=True)
        for number, photo in enumerate(photos):
            picture = cv2.resize(np.ascontiguousarray(photo[:96, :96, ::-1]), (sides, sides), interpolation=3)
            cv2.imwrite(str(folder / part / f"{number}.png"), picture)
    return folder


def fit(name, overlays, output, **options):
    words = ["fit", "--config", name, "--output_dir", str(output)]
    for overlay in overlays:
        words += ["--config", f"parts/{overlay}.yaml"]
    for option, value in (FEW_STEPS | options).items():
        words += [f"--{option}", str(value)]
    return cli.main(words)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpen_small", "gpen"])
def test_a_prior_starts_gpen(kind, tmp_path, photos, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pairs = faces(tmp_path / "pairs", photos, 32, 1)
    overlay = ["debug_gpen"]
    prior, run = tmp_path / "prior", tmp_path / "run"
    assert fit(f"{kind}_prior.yaml", overlay, prior, **{"data.hq_dir": pairs / "hq"}) == 0, capsys.readouterr().err
    saved = torch.load(prior / "last.ckpt", weights_only=True)
    assert saved["ddpm_pairs"] == {"kind": "prior"}
    assert saved["global_step"] == 2
    options = {"model.init_from": prior / "last.ckpt", "model.discriminator_from": prior / "last.ckpt"}
    learning = {"model.learning_rate": 1e-12, "model.discriminator_learning_rate": 1e-12}
    rates = {"model.part_learning_rates": "{generator.: 1e-12}"}
    done = fit(f"{kind}.yaml", overlay, run, **options, **learning, **rates, **{"data.pairs_dir": pairs})
    assert done == 0, capsys.readouterr().err
    net = load_restorer(run / "last.ckpt")
    assert net.side == 32
    decoder = net.generator.state_dict()
    for name, value in decoder.items():
        torch.testing.assert_close(value, saved["state_dict"][f"net.{name}"], rtol=0, atol=1e-6)
    restored = torch.load(run / "last.ckpt", weights_only=True)
    for name, value in restored["current_model_state"].items():
        if name.startswith("discriminator."):
            torch.testing.assert_close(value, saved["current_model_state"][name], rtol=0, atol=1e-6)


def test_second_phase_of_rrdb(tmp_path, photos, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pairs = faces(tmp_path / "pairs", photos, 64, 4)
    overlays = ["debug_rrdb", "debug_rrdb_gan"]
    assert fit("rrdb_gan.yaml", overlays, tmp_path / "run", **{"data.pairs_dir": pairs}) == 0, capsys.readouterr().err
    saved = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert saved["ddpm_pairs"] == {"kind": "restorer"}
    assert not any(name.startswith("perceptual") for name in saved["state_dict"])
    assert load_restorer(tmp_path / "run" / "last.ckpt").init_args == {"scale": 4, "nf": 8, "nb": 1, "gc": 32}


def test_original_settings():
    config = yaml.safe_load(shipped_config("rrdb_gan.yaml").read_text())["model"]["init_args"]
    assert (config["pixel_weight"], config["perceptual_weight"], config["adversarial_weight"]) == (1, 1, 0.1)
    assert config["learning_rate"] == 1e-4
    assert config["sharpen_hq"]
    config = yaml.safe_load(shipped_config("gpen.yaml").read_text())["model"]["init_args"]
    encoder, decoder = config["learning_rate"], config["part_learning_rates"]["generator."]
    assert (encoder, decoder, config["discriminator_learning_rate"]) == (2e-3, 2e-4, 2e-5)
    assert (config["r1_weight"], config["r1_every"], config["path_weight"], config["path_every"]) == (10, 16, 2, 4)
