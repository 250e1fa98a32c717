"""The real command line of the Trainer's verbs, in this process."""

import inspect
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from lightning.fabric.plugins.collectives.torch_collective import default_pg_timeout
from lightning.pytorch.cli import LightningCLI
from PIL import Image
from tiny_ddpm import save_ckpt, save_folder, save_safetensors, tiny_denoiser
from torch.utils.data import DataLoader

from ddpm_pairs.cli.main import main
from ddpm_pairs.cli.parser import configs_first
from ddpm_pairs.cli.trainer import LONGEST_WAIT, TrainerCLI
from ddpm_pairs.diffusion import DDPM
from ddpm_pairs.shipped import config_names, configs_folder
from ddpm_pairs.synthesis import PairGenerator

TINY = {
    "model": {
        "class_path": "ddpm_pairs.diffusion.DDPM",
        "init_args": {
            "net": {
                "class_path": "ddpm_pairs.diffusion.UNet",
                "init_args": {"channels": [8, 16], "layers_per_block": 1, "attention_levels": [], "norm_groups": 4},
            },
            "t_max": 60,
        },
    },
    "data": {
        "class_path": "ddpm_pairs.data.LowQualityImages",
        "init_args": {"crop_size": 16, "batch_size": 2, "num_workers": 0},
    },
    "trainer": {
        "accelerator": "cpu",
        "max_steps": 2,
        "max_epochs": -1,
        "val_check_interval": 2,
        "check_val_every_n_epoch": None,
        "num_sanity_val_steps": 0,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [{"class_path": "ddpm_pairs.callbacks.EMA"}],
    },
}

OWN_PARTS = """
import json
import os
import signal
from pathlib import Path

import lightning as L
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from ddpm_pairs.data import HighQualityImages


class Net(nn.Module):
    multiple = 4

    def __init__(self, width: int = 4, bias: bool = True):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=bias), nn.Conv2d(width, 3, 3, padding=1))

    def forward(self, x_t, timestep):
        return self.layers(x_t)


class Darker:
    name = "darker"

    def __init__(self, factor: float = 0.5, scale: int = 4):
        self.factor, self.scale = factor, scale

    def draw(self, generator):
        return {"shift": float(torch.rand((), generator=generator)) / 10}

    def apply(self, hq, parameters):
        shift = torch.tensor([one["shift"] for one in parameters]).view(-1, 1, 1, 1)
        lq = F.avg_pool2d(hq, self.scale) * self.factor + shift
        return (lq.clamp(0, 1) * 255).round() / 255


class Nameless:
    def draw(self, generator) -> dict:
        return {}

    def apply(self, hq: torch.Tensor, parameters: list) -> torch.Tensor:
        return hq


class Seedless(HighQualityImages):
    def __init__(self, hq_dir: str):
        super().__init__(hq_dir, num_workers=0)


class Noise(L.LightningDataModule):
    def train_dataloader(self):
        return DataLoader(dataset=[{"lq": torch.rand(2, 3, 16, 16)}] * 4, batch_size=None)

    def val_dataloader(self):
        return DataLoader(dataset=[{"lq": torch.rand(1, 3, 16, 16), "key": ["a"]}], batch_size=None)


class Tell(L.Callback):
    def __init__(self, path: str):
        self.path = Path(path)

    def on_predict_end(self, trainer, pl_module):
        loop = trainer.predict_loop
        told = {"returned": loop.return_predictions, "kept": len(loop.predictions), "class": type(pl_module).__name__}
        self.path.write_text(json.dumps(told))


class Stop(L.Callback):
    def __init__(self, number: int, at: int = 1):
        self.number, self.at = number, at

    def on_predict_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if batch_idx == self.at:
            os.kill(os.getpid(), self.number)


class Other(L.LightningModule):
    def __init__(self, width: int = 2):
        super().__init__()
        self.layer = nn.Linear(width, 1)

    def predict_step(self, batch, batch_idx):
        return self.layer.weight.sum().item()


class Restorer(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 48, 3, padding=1)
        self.keys = []

    def training_step(self, batch, batch_idx):
        self.keys += batch["key"]
        return (F.pixel_shuffle(self.layer(batch["lq"]), 4) - batch["hq"]).abs().mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())
"""


@pytest.fixture(autouse=True)
def put_back():
    """Commands set threads and Lightning ignores Ctrl-C after one."""
    threads, handler = torch.get_num_threads(), signal.getsignal(signal.SIGINT)
    yield
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, handler)


@pytest.fixture
def place(tmp_path, photos, monkeypatch):
    """An empty working directory; beside it what commands need."""
    for folder in ("hq", "lq", "empty", "cwd", "site"):
        (tmp_path / folder).mkdir()
    for number, photo in enumerate(photos * 2):
        Image.fromarray(photo[:64, number : 64 + number]).save(tmp_path / "hq" / f"{number}.png")
        Image.fromarray(photo[:32, number : 32 + number]).save(tmp_path / "lq" / f"{number}.png")
    save_ckpt(tiny_denoiser(), tmp_path / "tiny.ckpt")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    (tmp_path / "text.ckpt").write_text("hello")
    torch.save({"conv_first.weight": torch.zeros(3, 3)}, tmp_path / "rrdb.pth")
    (tmp_path / "site" / "own_parts.py").write_text(OWN_PARTS)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "own_parts", raising=False)
    monkeypatch.chdir(tmp_path / "cwd")
    return tmp_path


QUICK = (
    "--trainer.accelerator=cpu --trainer.enable_progress_bar=false --data.num_workers=0 --data.hq_dir=../hq "
    "--model.degradation=bicubic --model.t_min=0 --model.t_max=40 --model.num_steps=2 --model.slots=4 "
    "--model.threads=1 --model.precision=fp32"
)
PREDICT = f"predict --config pairs_natural.yaml {QUICK} --output_dir=pairs"
CKPT = "--ckpt_path ../tiny.ckpt"
FIT = "fit --config ../tiny.yaml --data.lq_dir ../lq --output_dir run"
CHAIN = PREDICT.replace("pairs_natural.yaml", "pairs_own_chain.yaml").replace("--model.degradation=bicubic ", "")
OPERATIONS = "--model.degradation.operations '[{{class_path: ddpm_pairs.degradations.{}, init_args: {{{}}}}}]'"
ON_THE_FLY = (
    "fit --model own_parts.Restorer --data DegradedImages --data.hq_dir ../hq --data.crop_size 32 --data.batch_size 4 "
    "--data.degradation ddpm_pairs.degradations.RealESRGAN --data.num_workers 0 --trainer.max_steps 3 "
    "--trainer.accelerator cpu --trainer.limit_val_batches 0 --trainer.enable_progress_bar false "
    "--trainer.enable_model_summary false --output_dir run"
)


def content(root):
    paths = (path for path in root.rglob("*") if path.is_file())
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}
    return {name: data for name, data in files.items() if name not in ("run.yaml", "contact_sheet.png")}


def records(root=Path("pairs")):
    return [json.loads(line) for line in (root / "manifest.jsonl").read_text().splitlines()]


def user_error(command, capsys):
    """The one line of a user error, which is all that came of the command."""
    before = sorted(Path("..").rglob("*"))
    capsys.readouterr()
    assert main(shlex.split(command)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert len(lines) == 1, said.err
    assert lines[0].startswith("ddpm-pairs: error: ") and len(lines[0]) < 400
    for foreign in ("Union", "Namespace", "Subtypes", "Parser key", "tip:"):
        assert foreign not in lines[0]
    assert [path for path in sorted(Path("..").rglob("*")) if "__pycache__" not in path.parts] == before
    return lines[0]


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        (f"{PREDICT} {CKPT} --data.hq_dir ../nowhere", ["--data.hq_dir", "../nowhere"]),
        (f"{PREDICT} {CKPT} --data.hq_dir ../empty", ["--data.hq_dir", "no images"]),
        (f"{PREDICT} {CKPT} --data.hq_dir ../tiny.ckpt", ["--data.hq_dir", "not a folder"]),
        (f"{FIT} --data.lq_dir ../nowhere", ["--data.lq_dir", "../nowhere"]),
        (f"{FIT} --data.lq_dir ../empty", ["--data.lq_dir", "no images"]),
        (f"{PREDICT} {CKPT} --model.t_maxx 3", ["--model.t_maxx", "did you mean --model.t_max?"]),
        (f"{PREDICT} {CKPT} --model.init_args.lrr 3", ["--model.lrr"]),
        (f"{PREDICT} {CKPT} --modell.t_max 3", ["--modell.t_max"]),
        (f"{PREDICT} {CKPT} --data.hqdir x", ["--data.hqdir", "did you mean --data.hq_dir?"]),
        (f"{PREDICT} {CKPT} --trainer.devicess 3", ["--trainer.devicess"]),
        (f"{PREDICT} {CKPT} --outputdir x", ["--outputdir"]),
        (f"{PREDICT} {CKPT} extra", ["unexpected argument 'extra'"]),
        (f"{FIT} --model.net.chanels [8]", ["--model.net.chanels", "did you mean --model.net.channels?"]),
        ("predict --config pair.yaml", ["pair.yaml does not exist", "(nearest names: pairs.yaml, "]),
        ("predict --config part/cpu.yaml", ["part/cpu.yaml does not exist", "(nearest names: parts/cpu.yaml, "]),
        ("predict --config", ["--config", "expected one argument"]),
        ("predict --config ../empty", ["--config ../empty"]),
        (f"predict --config ../text.ckpt {CKPT}", ["--config ../text.ckpt"]),
        ("predict", ["--data", "--model", "must be set"]),
        ("predict --config pairs.yaml", ["--data.hq_dir must be set"]),
        ("fit --config ../tiny.yaml", ["--data.lq_dir must be set"]),
        (PREDICT, ["--ckpt_path is missing; --model.t_max above 0 needs a trained DDPM"]),
        (f"{PREDICT} --ckpt_path ../nope.ckpt", ["../nope.ckpt does not exist"]),
        (f"{PREDICT} --ckpt_path nope", ["checkpoint nope does not exist", "shipped weights"]),
        (f"{PREDICT} --ckpt_path ../text.ckpt", ["../text.ckpt cannot be read"]),
        (f"{PREDICT} --ckpt_path ../rrdb.pth", ["conv_first.weight", "expected a DDPM"]),
        (f"{PREDICT} --ckpt_path ../empty", ["../empty lacks unet/config.json"]),
        (f"{PREDICT} {CKPT} --model.t_max 61", ["--model.t_max: got 61; expected 60 or less"]),
        (f"{PREDICT} {CKPT} --model.t_max x", ["--model.t_max: got x; expected int"]),
        (f"{PREDICT} {CKPT} --model.t_max null", ["t_max"]),
        (f"{PREDICT} {CKPT} --model.schedule linear", ["--model.schedule"]),
        (f"{PREDICT} {CKPT} --model.scale 3", ["scale: got 3", "1, 2, 4"]),
        (f"{PREDICT} {CKPT} --model.slots 5", ["slots: got 5; expected 4 or 8"]),
        (f"{PREDICT} {CKPT} --model.threads 3", ["threads: got 3"]),
        (f"{PREDICT} {CKPT} --model.t_min 41", ["t_min and t_max: got 41 and 40"]),
        (f"{PREDICT} {CKPT} --model.sampler euler", ["--model.sampler: got euler; expected sde-dpmsolver++"]),
        (f"{PREDICT} {CKPT} --model.precision fp8", ["--model.precision: got fp8; expected fp32, bf16 or null"]),
        (f"{PREDICT} {CKPT} --model.num_steps 0", ["num_steps: got 0"]),
        (f"{PREDICT} {CKPT} --model.degradation blurr", ["degradation: got 'blurr'", "bicubic", "real_esrgan"]),
        (f"{PREDICT} {CKPT} --model.preset faces", ["--model.preset"]),
        (f"{PREDICT} {CKPT} --model.gray_hq 2", ["share of gray HQ images: got 2"]),
        (f"{CHAIN} --model.scale 2", ["--model.scale: got 2; expected 4, the scale of degradation chain"]),
        (
            f"{CHAIN} {OPERATIONS.format('Blurr', 'sigma: [1, 2]')}",
            ["cannot import class ddpm_pairs.degradations.Blurr"],
        ),
        (f"{CHAIN} {OPERATIONS.format('Blur', 'sigmaa: [1, 2]')}", ["sigmaa; did you mean --", "sigma?"]),
        (f"{CHAIN} {OPERATIONS.format('Blur', 'sigma: [2, 1]')}", ["Blur.sigma: got [2.0, 1.0]; expected [low, high]"]),
        (f"{CHAIN} --model.degradation.operations []", ["Chain.operations: got none"]),
        (ON_THE_FLY.replace("ddpm_pairs.degradations.RealESRGAN", "blurr"), ["degradation: got 'blurr'", "bicubic"]),
        (
            ON_THE_FLY.replace("ddpm_pairs.degradations.RealESRGAN", "own_parts.Net"),
            ["own_parts.Net is not a degradation"],
        ),
        (f"{ON_THE_FLY} --data.crop_size 30", ["--data.crop_size: got 30; expected a multiple of 4"]),
        (f"{ON_THE_FLY} --data.degradation.scal 4", ["did you mean --data.degradation.scale?"]),
        (ON_THE_FLY.replace("../hq", "../nowhere"), ["--data.hq_dir", "../nowhere"]),
        (f"{PREDICT} {CKPT} --model.degradation.class_path no.Blur", ["--model.degradation", "no.Blur"]),
        (f"{PREDICT} {CKPT} --model nope.Model", ["--model", "nope.Model"]),
        (f"{PREDICT} {CKPT} --seed_everything x", ["--seed_everything: got x"]),
        (f"{PREDICT} {CKPT} --seed_everything true", ["--seed_everything: got true; expected a number"]),
        (f"{PREDICT} {CKPT} --model.seed 3", ["--model.seed cannot be set; use --seed_everything"]),
        (f"{PREDICT} {CKPT} --data.init_args.seed=3", ["--data.init_args.seed=3 cannot be set"]),
        (f"{PREDICT} {CKPT} --model.degradation own_parts.Net", ["own_parts.Net is not a degradation"]),
        (f"{PREDICT} {CKPT} --model.degradation nope.Blur", ["degradation nope.Blur cannot be imported"]),
        (f"{PREDICT} {CKPT} --model.degradation own_parts.Nameless", ["Nameless has no `name`"]),
        (f"{PREDICT} {CKPT} --model.degradation.scale 4", ["--model.degradation"]),
        (f"{PREDICT} {CKPT} --output_dir ../tiny.ckpt", ["--output_dir: got the file ../tiny.ckpt"]),
        (f"{PREDICT} {CKPT} --output_dir ../hq/pairs", ["--output_dir", "must not contain each other"]),
        (f"{PREDICT} {CKPT} --trainer.devices x", ["devices"]),
        (f"{PREDICT} {CKPT} --trainer.max_steps x", ["--trainer.max_steps: got x; expected int"]),
        (f"{PREDICT} {CKPT} --trainer.callbacks+=own_parts.Nope", ["--trainer.callbacks", "own_parts"]),
        (f"{PREDICT.replace('predict', 'test', 1)} {CKPT}", ["describes a PairGenerator, which cannot `test`"]),
        (f"{PREDICT.replace('predict', 'validate', 1)} {CKPT}", ["describes a PairGenerator, which cannot `validate`"]),
        (f"{PREDICT.replace('predict', 'fit', 1)}", ["describes a PairGenerator, which cannot `fit`"]),
        (f"{FIT.replace('fit', 'predict', 1)} {CKPT}", ["describes a DDPM, which cannot `predict`"]),
        (f"{FIT.replace('fit', 'validate', 1)}", ["--ckpt_path is missing; `validate` needs a checkpoint"]),
        (f"{FIT.replace('fit', 'validate', 1)} {CKPT} --model.net.channels [8,8]", ["block_out_channels [8, 16]"]),
        (f"{FIT} --model.loss l7", ["--model.loss: got l7; expected l1, mse"]),
        (f"{FIT} --model.learning_rate -1", ["learning_rate: got -1"]),
        (f"{FIT} --ckpt_path ../nope.ckpt", ["--ckpt_path: got ../nope.ckpt; expected an existing .ckpt"]),
        (f"{FIT} --ckpt_path ../text.ckpt", ["../text.ckpt cannot be read"]),
        (f"{FIT} --ckpt_path ../rrdb.pth", ["--ckpt_path: got ../rrdb.pth; expected", "--model.init_from"]),
        (
            f"{FIT} --trainer.devices 2 --trainer.strategy ddp",
            ["got 1 validation samples; expected 2 or more, one per rank"],
        ),
        (f"{FIT} --output_dir ../tiny.ckpt", ["--output_dir: got the file ../tiny.ckpt"]),
        (
            f"{PREDICT} {CKPT} --data LowQualityImages --data.lq_dir ../lq",
            ["--data: got LowQualityImages; expected HighQualityImages"],
        ),
    ],
)
def test_user_errors_are_one_line_before_any_work(command, parts, place, capsys):
    line = user_error(command, capsys)
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("model: {init_args: {t_maxx: 3}}", ["--model.t_maxx", "(in --config ../bad.yaml)"]),
        ("model: {init_args: {t_max: x}}", ["--model.t_max: got x; expected int", "(in --config ../bad.yaml)"]),
        ("modell: {class_path: x}", ["--modell"]),
        ("model: [", ["--config ../bad.yaml is not a YAML file", "line 2"]),
        ("model: {init_args: {t_max: 3, t_max: 4}}", ["--config ../bad.yaml contains the key 't_max' twice"]),
        ("a: &a {b: *a}", ["--config ../bad.yaml contains an alias to a value that contains it"]),
        (
            "model: {class_path: ddpm_pairs.pairs.PairGenerator}",
            ["got 'ddpm_pairs.pairs' of version 0.1; replace it with ddpm_pairs.synthesis"],
        ),
        (
            "model: {init_args: {scale: 1, preset: faces}}",
            ["got 'preset: faces' of version 0.1; use", "OnHQGrid"],
        ),
        ("words", ["--config ../bad.yaml contains a str; expected options and their values"]),
        ("trainer: {callbacks: [{class_path: ddpm_pairs.callbacks.EMA, init_args: {decay: 3.0}}]}", ["decay: got 3.0"]),
    ],
)
def test_errors_in_a_config_say_where(text, parts, place, capsys):
    (place / "bad.yaml").write_text(text)
    line = user_error(f"predict --config pairs_natural.yaml --config ../bad.yaml {QUICK} {CKPT}", capsys)
    for part in parts:
        assert part in line


def test_configs_first():
    words = shlex.split("--a 1 --config x.yaml --b --config=y.yaml -c z.yaml --c 2")
    assert shlex.join(configs_first(words)) == "--config x.yaml --config=y.yaml -c z.yaml --a 1 --b --c 2"
    assert configs_first(["--config"]) == ["--config"]


def test_what_is_typed_beats_configs_wherever_it_stands(place):
    (place / "more.yaml").write_text("model: {init_args: {t_max: 20, slots: 4, t_min: 2}}")
    words = f"predict --model.t_max 30 --config pairs_natural.yaml --config ../more.yaml --data.hq_dir ../hq {CKPT}"
    cli = TrainerCLI(shlex.split(words))
    assert type(cli.model) is PairGenerator
    assert (cli.model.t, cli.model.runtime.slots, cli.model.scale) == ((2, 30), 4, 4)
    assert cli.output_dir == Path("runs/pairs_natural")


def test_t_max_0_is_all_that_handcrafted_pairs_need(place):
    words = "predict --config pairs_natural.yaml --data.hq_dir ../hq"
    walked = TrainerCLI(shlex.split(f"{words} {CKPT}")).model
    assert (walked.degradation.name, walked.t, walked.psnr_drop) == ("bicubic", (50, 150), None)
    handcrafted = TrainerCLI(shlex.split(f"{words} --model.degradation real_esrgan --model.t_max 0")).model
    assert (handcrafted.degradation.name, handcrafted.t) == ("real_esrgan", (0, 0))


def test_ranks_that_are_done_wait_for_the_slowest(place):
    ddp = "--trainer.accelerator cpu --trainer.strategy ddp --trainer.devices 2"
    predict = f"predict --config pairs.yaml --data.hq_dir ../hq {CKPT} {ddp}"
    assert TrainerCLI(shlex.split(predict)).trainer.strategy._timeout == LONGEST_WAIT
    assert TrainerCLI(shlex.split(f"{FIT} {ddp}")).trainer.strategy._timeout == default_pg_timeout


def test_checkpoint_hyperparameters_never_count(place):
    """Lightning would read them over what was typed."""
    checkpoint = torch.load(place / "tiny.ckpt", weights_only=True)
    checkpoint["hyper_parameters"] = {"t_max": 3, "t_min": 3, "_class_path": "ddpm_pairs.diffusion.DDPM"}
    torch.save(checkpoint, place / "tiny.ckpt")
    told = place / "told.json"
    own = f"--trainer.callbacks+=own_parts.Tell --trainer.callbacks.path={told}"
    assert main(shlex.split(f"{PREDICT} {CKPT} {own} --model.t_min 10")) == 0
    assert all(10 <= record["t"] <= 40 for record in records())
    assert json.loads(told.read_text()) == {"returned": False, "kept": 0, "class": "PairGenerator"}


def test_lightnings_hooks_that_are_replaced_are_still_called():
    """Private names of Lightning's: a new release that renames one must not pass unnoticed."""
    source = inspect.getsource(LightningCLI.__init__)
    assert "self._parse_ckpt_path()" in source
    assert "self._run_subcommand(self.subcommand)" in source
    for name in ("_parse_ckpt_path", "_run_subcommand", "instantiate_trainer", "parse_arguments", "init_parser"):
        assert callable(getattr(LightningCLI, name)) and name in vars(TrainerCLI)


def test_seed_reaches_model_and_data(place):
    cli = TrainerCLI(shlex.split(f"{PREDICT} {CKPT} --seed_everything 11"))
    assert (cli.model.seed, cli.datamodule.seed) == (11, 11)
    cli = TrainerCLI(shlex.split(f"{FIT} --seed_everything 12"))
    assert (cli.model.seed, cli.datamodule.seed) == (12, 12)
    cli = TrainerCLI(shlex.split(FIT))
    assert (cli.model.seed, cli.datamodule.seed) == (0, 0)
    (place / "seed.yaml").write_text("seed_everything: 13")
    cli = TrainerCLI(shlex.split(f"{PREDICT} {CKPT} --config ../seed.yaml"))
    assert (cli.model.seed, cli.datamodule.seed) == (13, 13)


def usage(name):
    """The command that a config shows in its head, with real folders and degradations; None where it shows none."""
    lines = (configs_folder() / name).read_text().splitlines()
    shown = [line.lstrip("# ") for line in lines if line.lstrip("# ").startswith("lightning ")]
    if not shown:
        return None
    words = shlex.split(shown[0].removesuffix("\\"))[1:]  # its next line names files of the user
    for place, word in enumerate(words[:-1]):
        if word.startswith("--data.") and word.endswith("_dir"):
            words[place + 1] = "../hq"
        if word == "--data.degradation":
            words[place + 1] = "bicubic"
    return words


@pytest.mark.parametrize("name", [name for name in config_names() if usage(name)])
def test_shipped_configs_parse_and_build_as_their_heads_say(name, place):
    words = usage(name)
    assert name in words
    cli = TrainerCLI([*words, "--trainer.accelerator=cpu", "--trainer.devices=1"])
    assert cli.subcommand == words[0]
    assert cli.model is not None and cli.datamodule is not None
    assert list(Path().iterdir()) == []


def test_overlay_for_the_cpu(place):
    cli = TrainerCLI(shlex.split(f"predict --config pairs.yaml --config parts/cpu.yaml --data.hq_dir ../hq {CKPT}"))
    assert cli.trainer.strategy.root_device.type == "cpu"
    assert (cli.model.scale, cli.model.t, cli.model.start.degradation.name) == (1, (0, 500), "real_esrgan")


def test_print_config_is_a_config(place, capsys):
    with pytest.raises(SystemExit) as caught:
        main(shlex.split(f"{PREDICT} {CKPT} --print_config"))
    assert caught.value.code == 0
    (place / "printed.yaml").write_text(capsys.readouterr().out)
    cli = TrainerCLI(shlex.split(f"predict --config ../printed.yaml {CKPT}"))
    assert (cli.model.t, cli.model.runtime.slots, cli.datamodule.hq_dir) == ((0, 40), 4, "../hq")


def test_all_forms_of_a_checkpoint_give_the_same_pairs(place):
    save_safetensors(tiny_denoiser(), place / "tiny.safetensors")
    save_folder(tiny_denoiser(), place / "tiny")
    found = []
    for form in ("tiny.ckpt", "tiny.safetensors", "tiny"):
        assert main(shlex.split(f"{PREDICT} --ckpt_path ../{form} --output_dir {form}")) == 0
        found.append(content(Path(form)))
    assert len(found[0]) == 19 and found[0] == found[1] == found[2]
    assert {path.name for path in Path("tiny").iterdir()} == {
        *("hq", "lq", "manifest.jsonl", "meta_info.txt", "run.yaml", "failures.jsonl", "contact_sheet.png")
    }


def test_same_command_again_makes_nothing_and_other_settings_are_refused(place, capsys):
    assert main(shlex.split(f"{PREDICT} {CKPT}")) == 0
    whole, run = content(Path("pairs")), Path("pairs/run.yaml").read_bytes()
    assert main(shlex.split(f"{PREDICT} {CKPT}")) == 0
    assert content(Path("pairs")) == whole
    line = user_error(f"{PREDICT} {CKPT} --model.t_max 30 --seed_everything 4", capsys)
    assert "degradation.t [0, 40] -> [0, 30] and 1 more" in line and "--allow_mixed true" in line
    save_ckpt(tiny_denoiser((8, 8)), place / "other.ckpt")
    assert "checkpoint_sha256" in user_error(f"{PREDICT} --ckpt_path ../other.ckpt", capsys)
    assert Path("pairs/run.yaml").read_bytes() == run
    Path("pairs/lq/0.png").unlink()
    assert main(shlex.split(f"{PREDICT} {CKPT} --model.t_max 0 --model.t_min 0 --allow_mixed true")) == 0
    assert [record["t"] for record in records()][0] == 0 and len(records()) == 8


def test_handcrafted_pairs_need_no_checkpoint(place):
    assert main(shlex.split(f"{PREDICT} --model.t_max 0")) == 0
    assert {record["t"] for record in records()} == {0}
    run = yaml.safe_load(Path("pairs/run.yaml").read_text())
    assert run["settings"]["checkpoint_sha256"] is None and run["places"]["checkpoint"] is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_predict_names_the_command_that_goes_on(place, capsys, number):
    assert main(shlex.split(f"{PREDICT} {CKPT} --output_dir unbroken")) == 0
    capsys.readouterr()
    command = f"{PREDICT} {CKPT} --output_dir 'my pairs'"
    words = [*shlex.split(command), "--trainer.callbacks+=own_parts.Stop", f"--trainer.callbacks.number={number}"]
    assert main(words) == 128 + number
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("interrupted; to resume, run: lightning predict ")
    assert Path("my pairs/manifest.rank0.jsonl").exists()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    again = shlex.split(line.removeprefix("interrupted; to resume, run: lightning "))
    assert again == words
    assert main([*again, "--trainer.callbacks.at=9"]) == 0
    assert content(Path("my pairs")) == content(Path("unbroken"))


@pytest.mark.parametrize("suffix", [".yaml", ".safetensors", ""])
@pytest.mark.parametrize("option", ["--model", "--model.degradation", "--data", "--trainer.callbacks", "--config"])
def test_the_content_of_a_file_that_is_no_config_is_not_printed(place, capsys, option, suffix):
    Path(f"secret{suffix}").write_text("root:x:0:0:root:/root:/bin/bash\nkey:y\n")
    line = user_error(f"{PREDICT} {CKPT} {option} secret{suffix}", capsys)
    assert not any(part in line for part in ("root:", "bash", "key:y"))


def test_errors_escape_control_characters(place, capsys):
    line = user_error(f"{PREDICT} --ckpt_path 'a\x1b[31m.ckpt'", capsys)
    assert "a\\x1b[31m.ckpt" in line and "\x1b" not in line


@pytest.mark.parametrize("command", [FIT, f"{PREDICT} {CKPT}"])
def test_a_signal_while_the_loaders_start_is_an_interruption_too(place, capsys, monkeypatch, command):
    """Lightning's teardown fails then, because it asks for the length of what has not started."""
    monkeypatch.setattr(DataLoader, "__iter__", lambda self: os.kill(os.getpid(), signal.SIGTERM))
    assert main(shlex.split(command)) == 143
    assert f"interrupted; to resume, run: lightning {command.split()[0]} " in capsys.readouterr().err


def test_an_exit_that_is_no_interruption_stays_one(place):
    (place / "site" / "leaving.py").write_text(
        "import lightning as L\n"
        "class Leave(L.Callback):\n"
        "    def on_predict_start(self, *args):\n"
        "        raise SystemExit(7)\n"
    )
    with pytest.raises(SystemExit) as caught:
        main(shlex.split(f"{PREDICT} {CKPT} --trainer.callbacks+=leaving.Leave"))
    assert caught.value.code == 7


def test_lightnings_loggers_are_left_as_they_were(place, capsys):
    levels = [logging.getLogger(name).level for name in ("lightning.pytorch", "lightning.fabric")]
    user_error(f"{PREDICT} --ckpt_path nope", capsys)
    assert [logging.getLogger(name).level for name in ("lightning.pytorch", "lightning.fabric")] == levels


def test_fit_resumes_and_never_starts_over_a_run(place, capsys):
    assert main(shlex.split(FIT)) == 0
    last = Path("run/last.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] == 2
    assert "run already contains a run; resume it with --ckpt_path last" in user_error(FIT, capsys)
    assert "run already contains a run" in user_error(f"{FIT} --ckpt_path ../tiny.ckpt", capsys)
    line = user_error(f"{FIT} --ckpt_path last --model.net.channels [8,8]", capsys)
    assert "block_out_channels [8, 16], but the config has [8, 8]" in line
    line = user_error(f"{FIT} --ckpt_path last --model.schedule linear", capsys)
    assert "schedule cosine, but the config has linear" in line
    assert main(shlex.split(f"{FIT} --ckpt_path last --trainer.max_steps 3")) == 0
    assert torch.load(last, weights_only=True)["global_step"] == 3
    assert main(shlex.split(f"{PREDICT} --ckpt_path run/last.ckpt")) == 0
    assert len(records()) == 8


@pytest.mark.slow
def test_fit_writes_a_config_that_fits_again(place):
    assert main(shlex.split(f"{FIT} --seed_everything 3 --model.learning_rate 1e-3")) == 0
    written = yaml.safe_load(Path("run/config.yaml").read_text())
    assert written["model"]["init_args"]["learning_rate"] == 1e-3 and written["seed_everything"] == 3
    cli = TrainerCLI(["fit", "--config", "run/config.yaml", "--output_dir", "again"])
    assert type(cli.model) is DDPM and (cli.model.learning_rate, cli.model.seed) == (1e-3, 3)
    assert main(["fit", "--config", "run/config.yaml", "--output_dir", "again"]) == 0
    first, again = (torch.load(f"{name}/last.ckpt", weights_only=True)["state_dict"] for name in ("run", "again"))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_validate_takes_the_checkpoint_and_leaves_training_callbacks_out(place, capsys):
    checkpoints = "--trainer.callbacks+=lightning.pytorch.callbacks.ModelCheckpoint"
    command = f"{FIT.replace('fit', 'validate', 1)} {CKPT} {checkpoints}"
    cli = TrainerCLI(shlex.split(command))
    work = cli.prepare()
    expected = tiny_denoiser().net.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in cli.model.net.state_dict().items())
    work()
    assert 0 < cli.trainer.callback_metrics["val/loss"] < 10
    assert not Path("run").exists()


def test_own_network_degradation_data_and_callback(place):
    own = (
        "fit --config ../tiny.yaml --output_dir run --data own_parts.Noise --model.net own_parts.Net "
        "--model.net.width 6 --trainer.val_check_interval null --trainer.check_val_every_n_epoch 1"
    )
    assert main(shlex.split(own)) == 0
    spec = torch.load("run/last.ckpt", weights_only=True)["ddpm_pairs"]
    assert spec["net"] == {"class_path": "own_parts.Net", "init_args": {"width": 6, "bias": True}}
    told = place / "told.json"
    command = (
        "predict --config pairs_natural.yaml --trainer.accelerator cpu --trainer.enable_progress_bar false "
        "--data own_parts.Seedless --data.hq_dir ../hq --seed_everything 5 "
        "--model.degradation own_parts.Darker --model.degradation.factor 0.25 "
        "--model.t_min 1 --model.t_max 20 --model.num_steps 2 --model.slots 4 --model.threads 1 "
        "--ckpt_path run/last.ckpt --trust_classes own_parts --output_dir pairs "
        f"--trainer.callbacks+=own_parts.Tell --trainer.callbacks.path={told}"
    )
    assert main(shlex.split(command)) == 0
    assert told.is_file()
    assert {record["seed"] for record in records()} == {5}
    assert all(record["degradation"]["parameters"]["start"]["name"] == "darker" for record in records())
    run = yaml.safe_load(Path("pairs/run.yaml").read_text())
    assert run["settings"]["degradation"]["init_args"]["start"] == {
        "name": "darker",
        "class_path": "own_parts.Darker",
        "init_args": {"factor": 0.25, "scale": 4},
    }
    assert main(["remake", "pairs", "3"]) == 0
    # Half as dark means other pairs, and that is noticed.
    assert main(shlex.split(command.replace("factor 0.25", "factor 0.5"))) == 2


@pytest.mark.slow
def test_degradation_by_class_path_equals_its_short_name(place):
    assert main(shlex.split(f"{PREDICT} {CKPT} --model.degradation real_esrgan --output_dir short")) == 0
    (place / "class.yaml").write_text(
        "model: {init_args: {degradation: {class_path: ddpm_pairs.degradations.RealESRGAN, init_args: {scale: 4}}}}"
    )
    quick = QUICK.replace("--model.degradation=bicubic ", "")
    command = f"predict --config pairs_natural.yaml --config ../class.yaml {quick} {CKPT} --output_dir long"
    assert main(shlex.split(command)) == 0
    assert content(Path("short")) == content(Path("long"))
    assert main(shlex.split(f"{command} --output_dir short")) == 0


@pytest.mark.parametrize("config", ["pairs.yaml", "pairs_natural.yaml"])
@pytest.mark.parametrize("name", ["bicubic", "classical", "bsrgan", "real_esrgan"])
def test_handcrafted_pairs_of_every_model_are_remade_bit_for_bit(config, name, place):
    quick = PREDICT.replace("--model.degradation=bicubic ", "").replace("pairs_natural.yaml", config)
    option = "--model.degradation.degradation" if config == "pairs.yaml" else "--model.degradation"
    assert main(shlex.split(f"{quick} --model.t_max 0 {option} {name}")) == 0
    entries = [record["degradation"] for record in records()]
    if config == "pairs.yaml":
        assert {entry["name"] for entry in entries} == {"on_hq_grid"} and {one["scale"] for one in records()} == {1}
        entries = [entry["parameters"]["degradation"] for entry in entries]
    assert {entry["name"] for entry in entries} == {name}
    assert len({str(entry["parameters"]) for entry in entries}) == (1 if name == "bicubic" else 8)
    assert main(["remake", "pairs", "0"]) == 0 and main(["remake", "pairs", "5"]) == 0


def test_hq_is_prepared_from_the_command_line(place, capsys):
    command = f"{PREDICT} --model.t_max 0 --model.sharpen_hq true --model.gray_hq 0.5"
    assert main(shlex.split(command)) == 0
    assert all(record["hq_preparation"]["sharpened"] for record in records())
    assert {record["hq_preparation"]["gray"] for record in records()} == {True, False}
    assert main(["remake", "pairs", "2"]) == 0
    assert "gray_hq 0.5 -> 0.0" in user_error(f"{PREDICT} --model.t_max 0 --model.sharpen_hq true", capsys)


@pytest.mark.slow
def test_own_chain_from_its_config_and_typed(place, capsys):
    assert main(shlex.split(f"{CHAIN} --model.t_max 0")) == 0
    assert main(shlex.split(f"{CHAIN} --model.t_max 0")) == 0
    assert [len(record["degradation"]["parameters"]["operations"]) for record in records()] == [6] * 8
    spec = yaml.safe_load(Path("pairs/run.yaml").read_text())["settings"]["degradation"]
    assert spec["init_args"]["operations"][2]["init_args"]["gray"] == 0.4
    assert main(["remake", "pairs", "4"]) == 0
    typed = f"{CHAIN} --model.t_max 0 {OPERATIONS.format('Jpeg', 'quality: [20, 30]')}"
    assert "made with different settings (degradation.operations [{" in user_error(typed, capsys)
    assert main(shlex.split(f"{typed} --output_dir typed")) == 0
    drawn = [record["degradation"]["parameters"]["operations"] for record in records(Path("typed"))]
    assert all(len(one) == 1 and 20 <= one[0]["quality"] <= 30 for one in drawn)
    assert main(["remake", "typed", "4"]) == 0


def test_a_restorer_trains_on_pictures_degraded_on_the_fly(place):
    prepared = "--data.hq_preparation ddpm_pairs.degradations.HQPreparation --data.hq_preparation.sharpen true"
    cli = TrainerCLI(shlex.split(f"{ON_THE_FLY} {prepared} --seed_everything 6"))
    cli.prepare()()
    data = cli.datamodule
    assert (data.seed, data.degradation.scale, data.hq_preparation.sharpen) == (6, 4, True)
    assert len(cli.model.keys) == 12 and sum("~" in key for key in cli.model.keys) == 5  # seven pictures train
    assert torch.load("run/last.ckpt", weights_only=True)["global_step"] == 3


def test_own_module_gets_its_weights(place, capsys):
    """A module that is none of ours is loaded from what Lightning saved."""
    sys.path.insert(0, str(place / "site"))
    weights = {"layer.weight": torch.tensor([[2.0, 3.0]]), "layer.bias": torch.zeros(1)}
    torch.save({"state_dict": weights}, place / "other.ckpt")
    command = "predict --model own_parts.Other --data own_parts.Seedless --data.hq_dir ../hq --trainer.accelerator cpu"
    cli = TrainerCLI(shlex.split(f"{command} --ckpt_path ../other.ckpt"))
    cli.prepare()
    assert cli.model.layer.weight.tolist() == [[2.0, 3.0]]
    assert "does not fit Other" in user_error(f"{command} --ckpt_path ../tiny.ckpt", capsys)
    assert "does not fit Other" in user_error(f"{command} --ckpt_path ../text.ckpt", capsys)
    assert "--ckpt_path is missing" in user_error(command, capsys)


def environment(place):
    paths = [str(Path(__file__).parents[2]), str(place / "site")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


def process(place, command):
    return subprocess.run(
        [sys.executable, "-m", "ddpm_pairs", *shlex.split(command)],
        env=environment(place), capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.slow
def test_a_process_says_one_line_too(place):
    """Not even Lightning's own words about devices and seeds stand before it."""
    for command, status in ((f"{PREDICT} --ckpt_path nope", 2), (f"{PREDICT} {CKPT} --model.t_maxx 1", 2)):
        done = process(place, command)
        assert (done.returncode, done.stdout) == (status, "")
        assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("ddpm-pairs: error: ")


@pytest.mark.slow
@pytest.mark.parametrize("left", ["all", "three canvases", "one"])
def test_two_ranks_write_the_folder_of_one(place, left):
    if left == "three canvases":
        for number in range(3, 8):
            (place / "hq" / f"{number}.png").unlink()
        for number, size in ((0, (80, 64)), (1, (93, 67))):
            with Image.open(place / "hq" / f"{number}.png") as picture:
                picture.resize(size).save(place / "hq" / f"{number}.png")
    if left == "one":
        for number in range(1, 8):
            (place / "hq" / f"{number}.png").unlink()
    (place / "hq" / "broken.png").write_text("no picture")
    command = f"{PREDICT} {CKPT} --model.degradation real_esrgan"
    assert main(shlex.split(f"{command} --output_dir one")) == 0
    two = f"{command} --output_dir two --trainer.devices 2 --trainer.strategy ddp"
    done = process(place, two)
    assert done.returncode == 0, done.stderr
    assert content(Path("two")) == content(Path("one"))
    assert len(records(Path("two"))) == {"all": 8, "three canvases": 3, "one": 1}[left]
    if left == "all":  # and go on with two ranks where one was interrupted
        lines = Path("two/manifest.jsonl").read_text().splitlines(keepends=True)
        Path("two/manifest.jsonl").unlink()
        Path("two/manifest.rank3.jsonl").write_text("".join(lines[:3]) + lines[3][:20])
        done = process(place, two)
        assert done.returncode == 0, done.stderr
        assert content(Path("two")) == content(Path("one"))
