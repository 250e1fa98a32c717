"""A user's own classes: their bugs keep their tracebacks, and a new module needs no change of the command line."""

import os
import shlex
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_pairs.cli.main import main

OWN = """
import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader

from ddpm_pairs.errors import UserError


class Draws:
    name, scale = "draws", 4

    def draw(self, generator):
        return {"sigma": int("x")}

    def apply(self, hq, parameters):
        return hq[:, :, ::4, ::4]


class Builds:
    name, scale = "builds", 4

    def __init__(self, sigma: int = 1):
        self.sigma = sigma + len(int("y"))

    def draw(self, generator):
        return {}

    def apply(self, hq, parameters):
        return hq[:, :, ::4, ::4]


class Refuses(Builds):
    def __init__(self, sigma: int = 1):
        raise UserError(f"sigma is {sigma}:\\nexpected 2")


class Callback(L.Callback):
    def __init__(self):
        self.missing.name


class Numbers(L.LightningDataModule):
    failures = ()

    def train_dataloader(self):
        return DataLoader(torch.ones(4, 1), batch_size=2)

    predict_dataloader = train_dataloader

    def check_run(self, run):
        print("data:", run.verb)


class Part(nn.Linear):
    def check_run(self, run):
        print("part:", run.model.name)


class Watch(L.Callback):
    def check_run(self, run):
        print("callback:", run.output_dir.name)


class Learns(L.LightningModule):
    verb_jobs = {"predict": "own_job"}

    def __init__(self, name: str = "learns", rate: float = 0.1):
        super().__init__()
        self.name, self.rate, self.part = name, rate, Part(1, 1)

    def check_run(self, run):
        if self.rate <= 0:
            raise UserError(f"rate is {self.rate}: expected more than 0")

    def training_step(self, batch, batch_idx):
        return self.part(batch).square().sum()

    def predict_step(self, batch, batch_idx):
        return self.part(batch)

    def validation_step(self, batch, batch_idx):
        return None

    def load_weights(self, path):
        print("weights:", path)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.rate)
"""

JOB = """
def prepare(run):
    run.check()
    return lambda: print("own job:", run.verb, run.ckpt_path, run.config["model"]["init_args"]["name"])
"""

QUIET = "--trainer.accelerator cpu --trainer.enable_progress_bar false --trainer.enable_model_summary false"
PREDICT = f"predict --config pairs_natural.yaml --model.t_max 0 --data.hq_dir hq --data.num_workers 0 {QUIET}"
FIT = f"fit --model own_classes.Learns --data own_classes.Numbers --trainer.max_steps 2 {QUIET}"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A working directory with one HQ image and the user's modules."""
    (tmp_path / "hq").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "hq" / "a.png")
    (tmp_path / "own_classes.py").write_text(OWN)
    (tmp_path / "own_job.py").write_text(JOB)
    (tmp_path / "broken.py").write_text("scale = int('z')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("own_classes", "own_job", "broken"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def last_frame(error):
    """File name and source line where an exception was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return Path(frame.filename).name, frame.line


@pytest.mark.parametrize(
    ("options", "kind", "where"),
    [
        ("--model.degradation own_classes.Draws", ValueError, ("own_classes.py", 'return {"sigma": int("x")}')),
        (
            "--model.degradation own_classes.Builds --model.degradation.sigma 3",
            ValueError,
            ("own_classes.py", 'self.sigma = sigma + len(int("y"))'),
        ),
        ("--trainer.callbacks+=own_classes.Callback", AttributeError, ("own_classes.py", "self.missing.name")),
        ("--trainer.callbacks+=broken.Callback", ValueError, ("broken.py", "scale = int('z')")),
    ],
)
def test_a_bug_keeps_its_traceback(options, kind, where):
    with pytest.raises(kind) as caught:
        main(shlex.split(f"{PREDICT} {options}"))
    assert last_frame(caught.value) == where
    assert caught.value.__cause__ is None, "what jsonargparse says about it must not stand before it"


@pytest.mark.slow
def test_a_bug_ends_the_process_with_its_traceback(place):
    done = subprocess.run(
        [sys.executable, "-m", "ddpm_pairs", *shlex.split(f"{PREDICT} --model.degradation own_classes.Draws")],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), str(place)])},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert f'{place / "own_classes.py"}", line' in done.stderr
    assert done.stderr.splitlines()[-1] == "ValueError: invalid literal for int() with base 10: 'x'"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("--model.degradation own_classes.Refuses", "sigma is 1: expected 2"),
        (
            "--model.degradation own_classes.Builds --model.degradation.sigma x",
            "--model.degradation.sigma: got x; expected int",
        ),
        ("--data.hq_dir nowhere", "--data.hq_dir: there is no folder 'nowhere'"),
        ("--trainer.strategy warp", "You selected an invalid strategy name"),
        ("--trainer.callbacks+=missing_package.Callback", "missing_package"),
    ],
)
def test_what_a_user_can_mend_is_one_line(options, line, capsys):
    assert main(shlex.split(f"{PREDICT} {options}")) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("ddpm-pairs: error: ")
    assert line in said


def test_a_new_module_checks_itself_and_trains(capsys):
    assert main(shlex.split(f"{FIT} --trainer.callbacks own_classes.Watch --output_dir run")) == 0
    assert capsys.readouterr().out.splitlines()[:3] == ["data: fit", "part: learns", "callback: run"]
    assert torch.load("run/last.ckpt", weights_only=True)["global_step"] == 2


def test_a_new_module_refuses_before_any_work(capsys):
    assert main(shlex.split(f"{FIT} --model.rate 0 --output_dir run")) == 2
    assert capsys.readouterr().err == "ddpm-pairs: error: rate is 0.0: expected more than 0\n"
    assert not Path("run").exists()


def test_a_new_module_names_its_own_job(capsys):
    command = f"predict --model own_classes.Learns --model.name other --data own_classes.Numbers {QUIET}"
    assert main(shlex.split(f"{command} --ckpt_path some.ckpt")) == 0
    assert capsys.readouterr().out.splitlines() == [
        "data: predict",
        "part: other",
        "own job: predict some.ckpt other",
    ]


def test_a_new_module_loads_its_own_weights(capsys):
    Path("weights.bin").touch()
    command = f"validate --model own_classes.Learns --data own_classes.Numbers {QUIET} --ckpt_path weights.bin"
    assert main(shlex.split(f"{command} --model.rate 0")) == 2
    assert capsys.readouterr().out.splitlines() == ["weights: weights.bin", "data: validate"]


def test_a_loss_that_is_not_finite_ends_in_one_line(capsys):
    Path("lq").mkdir()
    for number in range(4):
        Image.open("hq/a.png").crop((0, 0, 32, 32)).save(f"lq/{number}.png")
    network = "--model.net.channels [8,8] --model.net.layers_per_block 1 --model.net.attention_levels []"
    command = f"fit --config ddpm_small.yaml --data.lq_dir lq --data.crop_size 16 --data.num_workers 0 {QUIET}"
    options = f"{network} --model.net.norm_groups 4 --model.learning_rate 1e38 --trainer.max_steps 9"
    assert main(shlex.split(f"{command} {options} --trainer.precision 32-true --output_dir run")) == 2
    *_, said = capsys.readouterr().err.splitlines()
    assert said.startswith("ddpm-pairs: error: the training loss became ")
    assert "nothing is saved yet; start again with a lower --model.learning_rate" in said
