import os
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"
FILES = sorted(path.name for path in LAUNCH.iterdir())


def run(name, *words, **environment):
    """The exit status and what was said; no process is started where an error comes first."""
    variables = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", **environment}
    return subprocess.run(["bash", LAUNCH / name, *words], env=variables, capture_output=True, text=True, check=False)


def test_what_is_there():
    assert FILES == ["slurm.sbatch", "torchrun.sh"]


@pytest.mark.parametrize("name", FILES)
def test_bash_takes_it(name):
    assert subprocess.run(["bash", "-n", LAUNCH / name], check=False).returncode == 0
    assert os.access(LAUNCH / name, os.X_OK)


def test_help_without_a_verb():
    said = run("torchrun.sh")
    assert said.returncode == 2 and "MASTER_ADDR  name" in said.stderr and "#" not in said.stderr


@pytest.mark.parametrize(
    ("name", "environment", "text"),
    [
        ("torchrun.sh", {"NNODES": "3"}, "NODE_RANK: is not set; give this node its number, from 0 to 2"),
        ("torchrun.sh", {"NNODES": "3", "NODE_RANK": "1"}, "MASTER_ADDR: is not set; give the name"),
        ("slurm.sbatch", {"SLURM_NNODES": "2"}, "SLURM_NTASKS_PER_NODE: is not set; give sbatch --ntasks-per-node"),
    ],
)
def test_what_is_missing_is_named(name, environment, text):
    said = run(name, "predict", GPUS="1", **environment)
    assert said.returncode != 0 and text in said.stderr and said.stderr.count("\n") == 1


def test_slurm_options_stand_before_the_first_command():
    """`sbatch` reads no `#SBATCH` after it."""
    lines = (LAUNCH / "slurm.sbatch").read_text().splitlines()
    command = next(n for n, line in enumerate(lines) if line and not line.startswith("#"))
    options = [n for n, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert lines[0].startswith("#!") and len(options) >= 6 and max(options) < command
