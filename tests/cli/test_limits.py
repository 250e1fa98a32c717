"""Limits of the machine and of options, and checkpoints of strangers, end in one line before any work."""

import errno
import os

import lightning as L
import pytest
import torch
from torch import nn

from ddpm_pairs.cli.jobs.fit import _check_fits, _read_state
from ddpm_pairs.cli.main import main
from ddpm_pairs.cli.parser import one_seed
from ddpm_pairs.errors import UserError, limit_of_machine


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), "a/b: No space left on device; free some space"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system; choose another folder"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "x: Permission denied; check its permissions"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "Cannot allocate memory; use a smaller batch size"),
        (MemoryError(), "out of memory; use a smaller batch size"),
        (torch.OutOfMemoryError("CUDA out of memory.\nmore"), "out of memory (CUDA out of memory.); use a smaller"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory (DefaultCPUAllocator"),
    ],
)
def test_a_limit_of_the_machine_is_one_line(error, line):
    assert limit_of_machine(error).startswith(line)
    assert "\n" not in limit_of_machine(error)


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "No such file", "x"), RuntimeError("a bug"), OSError("x"), KeyError("y")]
)
def test_a_bug_is_not_taken_for_a_limit(error):
    assert limit_of_machine(error) is None


@pytest.mark.parametrize("words", [["verify", "k" * 5000], ["fit", "--config", "k" * 5000 + ".yaml"]])
def test_a_name_of_5000_characters(words, capsys):
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "File name too long; use a shorter name" in line and len(line) < 300


@pytest.mark.parametrize(
    "words",
    [
        ["score", "a", "b", "--output_dir", ""],
        ["preview", "--degradation", "bicubic", "--data.hq_dir", "a", "--seed", "-1"],
        ["verify", ""],
        ["export", "a.ckpt", ""],
    ],
)
def test_empty_names_and_negative_seeds(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "; expected a " in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("seed", [-1, 2**32, True])
def test_seeds_out_of_range(seed):
    with pytest.raises(UserError, match="expected a number from 0 to 4294967295"):
        one_seed(seed)


class Module(L.LightningModule):
    def __init__(self, width=3):
        super().__init__()
        self.layer = nn.Linear(2, width)


class Runs:
    """A pickle that would run a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def checkpoint(**entries):
    state = {"state_dict": Module().state_dict(), "optimizer_states": [{"state": {}, "param_groups": []}]}
    return state | {"lr_schedulers": [], "loops": {}, "callbacks": {}, "epoch": 0, "global_step": 1} | entries


@pytest.mark.parametrize(
    "content",
    [
        {"x": 1},
        [1, 2],
        checkpoint(state_dict=[1]),
        checkpoint(optimizer_states={"a": 1}),
        checkpoint(optimizer_states=[1]),
        checkpoint(loops=[1]),
        checkpoint(global_step="1"),
        checkpoint(state_dict={1: torch.zeros(2)}),  # lacks the weights
        checkpoint(state_dict={"layer.weight": 1}),
        checkpoint(state_dict=Module(4).state_dict()),
    ],
)
def test_checkpoints_that_are_not_of_this_fit(content, tmp_path):
    path = str(tmp_path / "a.ckpt")
    torch.save(content, path)
    with pytest.raises(UserError, match=r"^--ckpt_path: .*a.ckpt (is not a checkpoint|has .* of shape)") as caught:
        _check_fits(path, _read_state(path), Module())
    assert "\n" not in str(caught.value)


def test_no_code_of_a_checkpoint_is_run(tmp_path):
    path = str(tmp_path / "a.ckpt")
    torch.save(checkpoint(more=Runs(str(tmp_path / "ran"))), path)
    with pytest.raises(UserError, match="cannot be read"):
        _read_state(path)
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_of_this_fit_is_taken(tmp_path):
    torch.save(checkpoint(), tmp_path / "a.ckpt")
    path = str(tmp_path / "a.ckpt")
    _check_fits(path, _read_state(path), Module())
