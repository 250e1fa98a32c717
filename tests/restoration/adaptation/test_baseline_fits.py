"""Fits of feature alignment and self-consistency: resuming, ranks, checkpoints, exports, and the shipped configs."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_adaptation import TinyReal, network
from tiny_baselines import BASELINES, assert_equal
from tiny_ddpm import save_ckpt, tiny_denoiser
from tiny_gan import trainer

from ddpm_pairs.callbacks import EMA, LastCheckpoint
from ddpm_pairs.cli import main as cli
from ddpm_pairs.degradations.learned.dsgan import DSGAN
from ddpm_pairs.degradations.learned.files import save_synthesizer
from ddpm_pairs.export import export_restorer
from ddpm_pairs.restoration import load_restorer

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
EVERY = pytest.mark.parametrize("name", BASELINES)


@pytest.fixture(autouse=True)
def own_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def fit_to(folder, name, steps, ckpt_path=None):
    module = BASELINES[name]()
    runner = trainer(steps, callbacks=[EMA(0.9, 1), LastCheckpoint(str(folder), 1000)])
    runner.fit(module, TinyReal(), ckpt_path=ckpt_path, weights_only=True)
    return module, torch.load(folder / "last.ckpt", weights_only=True)


@EVERY
def test_resumed_fit_is_the_unbroken_one_and_the_checkpoint_a_restorer(name, tmp_path):
    module, whole = fit_to(tmp_path / "whole", name, 4)
    fit_to(tmp_path / "broken", name, 2)
    path = tmp_path / "broken" / "last.ckpt"
    _, again = fit_to(tmp_path / "broken", name, 4, str(path))
    trained = ("net.", "discriminator.") if name == "alignment" else ("net.",)
    for part in ("state_dict", "current_model_state"):
        assert whole[part].keys() == again[part].keys() == module.state_dict().keys()
        assert {one.split(".")[0] + "." for one in whole[part]} == set(trained)
        assert all(torch.equal(again[part][name], value) for name, value in whole[part].items())
    restorer = load_restorer(path)
    assert restorer.state_dict().keys() == network().state_dict().keys()
    export_restorer(restorer, tmp_path / "out.safetensors")
    assert_equal(load_restorer(tmp_path / "out.safetensors"), restorer)


RANKS = """
import sys, torch
sys.path.insert(0, {tests!r})
from tiny_adaptation import TinyReal
from tiny_baselines import BASELINES
from tiny_gan import trainer
module = BASELINES[{name!r}](learning_rate=1e-3)
options = dict(devices={ranks}, strategy="ddp") if {ranks} > 1 else {{}}
fit = trainer(3, limit_val_batches=0, enable_checkpointing=False, **options)
fit.fit(module, TinyReal(4 // {ranks}))
if fit.is_global_zero:
    torch.save(module.state_dict(), {out!r})
"""


def start(folder, name, ranks):
    out, script = str(folder / f"{ranks}.pt"), folder / f"{ranks}.py"
    script.write_text(RANKS.format(tests=str(Path(__file__).parents[2]), name=name, ranks=ranks, out=out))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    run = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, cwd=folder)
    assert run.returncode == 0, run.stderr
    return torch.load(out, weights_only=True)


@pytest.mark.slow
@EVERY
def test_two_ranks_train_as_one(name, tmp_path):
    one, two = start(tmp_path, name, 1), start(tmp_path, name, 2)
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=0, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}")


@pytest.fixture
def folders(tmp_path, photos):
    """Eight pairs at x4, four real images, a DDPM, and a learned degradation."""
    for number, photo in enumerate([*photos, *(np.fliplr(photo) for photo in photos)]):
        hq = np.ascontiguousarray(cv2.resize(photo, (64, 48), interpolation=cv2.INTER_AREA)[..., ::-1])
        lq = cv2.resize(hq, (16, 12), interpolation=cv2.INTER_AREA)
        for folder, image in (("pairs/hq", hq), ("pairs/lq", lq), ("real", 255 - np.ascontiguousarray(photo))):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / folder / f"{number}.png"), image)
    save_ckpt(tiny_denoiser((4, 8), t_max=150), tmp_path / "ddpm.ckpt")
    save_synthesizer(DSGAN(4, 8, 1), tmp_path / "dsgan.safetensors", {})


@pytest.mark.parametrize(
    ("config", "more"),
    [
        ("align_rrdb_small.yaml", ["--config", "parts/debug_align.yaml"]),
        ("consistency_rrdb_small.yaml", ["--model.degraded_by", "ddpm.ckpt"]),
        ("consistency_rrdb_small.yaml", ["--model.degraded_by", "dsgan.safetensors"]),
    ],
    ids=["align", "ddpm", "dsgan"],
)
def test_configs_fit_predict_and_export(config, more, folders, tmp_path, capsys):
    words = ["--config", config, "--config", "parts/debug_rrdb.yaml", *more]
    few = {"max_steps": 2, "val_check_interval": 2, "accelerator": "cpu", "precision": "bf16-mixed"}
    few |= {"enable_progress_bar": "false", "enable_model_summary": "false"}
    options = [word for option, value in few.items() for word in (f"--trainer.{option}", str(value))]
    data = ["--data.pairs_dir", "pairs", "--data.lq_dir", "real"]
    assert cli.main(["fit", *words, *options, *data, "--output_dir", "run"]) == 0, capsys.readouterr().err
    words = ["predict", "--config", config, "--ckpt_path", "run/last.ckpt", "--data.lq_dir", "real"]
    options = ["--output_dir", "restored", "--trainer.accelerator", "cpu", "--trainer.precision", "32-true"]
    assert cli.main([*words, *options]) == 0, capsys.readouterr().err
    assert len(list((tmp_path / "restored").rglob("*.png"))) >= 4
    assert cli.main(["export", "run/last.ckpt", "restorer.safetensors"]) == 0
    assert not any(
        name.startswith(("discriminator.", "net.")) for name in load_restorer("restorer.safetensors").state_dict()
    )
