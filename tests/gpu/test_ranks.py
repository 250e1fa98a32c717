"""A pair of ranks on GPUs: by NCCL on two, by Gloo where there is one for both."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from processes import ROOT, content, launchers, run
from tiny_ddpm import save_ckpt, tiny_denoiser

pytestmark = pytest.mark.gpu

GLOO = {"class_path": "lightning.pytorch.strategies.DDPStrategy", "init_args": {"process_group_backend": "gloo"}}
"""NCCL refuses two ranks on one GPU."""

TINY = "--config parts/debug.yaml --trainer.max_steps 4 --trainer.val_check_interval 4"


@pytest.fixture(scope="module")
def images(device, tmp_path_factory, photos):
    """A folder with ``hq/`` and a tiny DDPM."""
    root = tmp_path_factory.mktemp("images")
    (root / "hq").mkdir()
    for number in range(12):
        photo = Image.fromarray(photos[number % 4]).crop((number, number, number + 64, number + 64))
        photo.save(root / "hq" / f"{number:02}.png")
    save_ckpt(tiny_denoiser(), root / "tiny.ckpt")
    return root


@pytest.fixture(scope="module")
def environment(device):
    """With this environment's Python before others."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    known = {**os.environ, "PATH": path, "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    return known | {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}


@pytest.fixture
def two_ranks(device, environment, tmp_path):
    """Run a verb on two ranks: two nodes that see the same GPU, or one node with two GPUs."""

    def go(verb, words, out):
        words = [*words, "--trainer.accelerator", {"cuda": "gpu", "cpu": "cpu"}[device.type]]
        if torch.cuda.device_count() > 1:
            nodes = {**environment, "NNODES": "1", "GPUS": "2"}
            command = ["bash", str(ROOT / "launch" / "torchrun.sh"), verb, *words, "--output_dir", out]
            commands = [(command, nodes)]
        else:
            words += ["--trainer.strategy", json.dumps(GLOO)]
            commands = launchers(verb, words, environment, out)
        run(commands, tmp_path, out, seconds=100 if device.type == "cuda" else 900)
        return tmp_path / out

    return go


def test_two_ranks_make_the_pairs_that_one_makes(device, two_ranks, images, environment, tmp_path):
    words = f"--config pairs_natural.yaml --ckpt_path {images}/tiny.ckpt --data.hq_dir {images}/hq --data.num_workers 0"
    words += " --model.t_min 0 --model.t_max 60 --model.slots 4 --model.threads 1 --model.precision bf16"
    words += " --trainer.enable_progress_bar false"
    alone = [sys.executable, "-m", "ddpm_pairs", "predict", *words.split(), "--trainer.devices", "1"]
    alone += ["--trainer.accelerator", {"cuda": "gpu", "cpu": "cpu"}[device.type], "--output_dir", "alone"]
    run([(alone, environment)], tmp_path, "alone")
    pairs = two_ranks("predict", words.split(), "pairs")
    expected = content(tmp_path / "alone")
    assert len(expected) == 2 * 12 + 3
    assert content(pairs) == expected


def test_two_ranks_train_one_network(two_ranks, images):
    words = f"--config ddpm_small.yaml {TINY} --data.lq_dir {images}/hq --data.val_fraction 0.2"
    folder = two_ranks("fit", [*words.split(), "--trainer.enable_progress_bar", "false"], "run")
    checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 4
    assert all(weight.isfinite().all() for weight in checkpoint["state_dict"].values() if weight.is_floating_point())
