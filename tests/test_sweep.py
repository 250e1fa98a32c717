"""The sweep that comes along is made of words that our command takes."""

import itertools
import shlex
from pathlib import Path

import pytest
import yaml

from ddpm_pairs.cli.main import main
from ddpm_pairs.cli.trainer import TrainerCLI
from ddpm_pairs.degradations import by_name
from ddpm_pairs.shipped import configs_folder

SWEEP = yaml.safe_load((configs_folder() / "sweep_t.yaml").read_text())


def commands():
    """The commands that W&B's agent would run, without ``/usr/bin/env``, with the agent's own way of spelling them."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    names = list(SWEEP["parameters"])
    for values in itertools.product(*(SWEEP["parameters"][name]["values"] for name in names)):
        chosen = {name: {"value": value} for name, value in zip(names, values, strict=True)}
        arguments = {"${env}": [], "${args}": create_sweep_command_args({"args": chosen})["args"]}
        yield chosen, [part for word in create_sweep_command(SWEEP["command"]) for part in arguments.get(word, [word])]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folders that the sweep names."""
    monkeypatch.chdir(tmp_path)
    for name in ("HQ", "LQ"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_it_is_a_grid_of_our_command():
    assert SWEEP["method"] == "grid" and SWEEP["metric"]["goal"] == "minimize"
    assert SWEEP["command"][0] == "${env}" and SWEEP["command"][-1] == "${args}"
    assert SWEEP["command"][1] == SWEEP["program"] == "lightning"


@pytest.mark.slow
def test_every_run_reaches_the_study(place):
    seen = set()
    for chosen, (program, *words) in commands():
        assert program == "lightning"
        cli = TrainerCLI([*words, "--trainer.accelerator=cpu"])
        assert cli.subcommand == "test"
        assert f"[{cli.model.degradations[0]}]" == chosen["model.degradations"]["value"]
        assert cli.model.ts == [0, *yaml.safe_load(chosen["model.ts"]["value"])]
        assert [type(logger).__name__ for logger in cli.trainer.loggers] == ["WandbRun"]
        seen.add((*cli.model.degradations, *cli.model.ts))
    degradations, ts = (SWEEP["parameters"][name]["values"] for name in ("model.degradations", "model.ts"))
    assert len(seen) == len(degradations) * len(ts) > 1
    assert all(by_name(yaml.safe_load(name)[0]) for name in degradations)


def test_a_parameter_that_does_not_exist_would_be_refused(place, capsys):
    _, (_, *words) = next(commands())
    assert main([*words, "--model.tts=[20]"]) == 2
    assert "did you mean --model.ts?" in capsys.readouterr().err


def test_each_run_has_a_folder_of_its_own(place, monkeypatch):
    _, (_, *words) = next(commands())
    assert TrainerCLI(words).output_dir == Path("runs/ablation")
    monkeypatch.setenv("WANDB_RUN_ID", "abc123")
    assert TrainerCLI(words).output_dir == Path("runs/ablation")  # set by hand, no sweep
    monkeypatch.setenv("WANDB_SWEEP_ID", "xyz")
    assert TrainerCLI(words).output_dir == Path("runs/ablation/abc123")
    assert TrainerCLI([*words, "--output_dir", "mine"]).output_dir == Path("mine")


def test_it_is_no_config(place, capsys):
    assert main(shlex.split("test --config sweep_t.yaml")) == 2
    assert "config sweep_t.yaml does not exist" in capsys.readouterr().err
