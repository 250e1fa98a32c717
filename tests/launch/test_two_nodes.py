"""Two nodes on one machine, one process each, make what one process makes."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from tiny_ddpm import save_ckpt, tiny_denoiser

ROOT = Path(__file__).parents[2]

SRUN = """#!/usr/bin/env bash
# Starts the tasks of two nodes on this machine, with the variables that SLURM gives each.
while [[ $1 == --* ]]; do shift; done
for rank in 0 1; do
    SLURM_PROCID=$rank SLURM_NODEID=$rank SLURM_LOCALID=0 "$@" &
done
wait -n && wait -n
"""
"""In place of `srun`, which is no part of a machine without SLURM."""

BOTH = {"manifest.rank0.jsonl", "manifest.rank1.jsonl"}
"""What two ranks that both make pairs have between them while they do."""


@pytest.fixture(scope="module")
def words(tmp_path_factory, photos):
    """What is typed after the verb, without the output: nine pictures of three canvases, a broken one, a tiny DDPM."""
    root = tmp_path_factory.mktemp("pictures")
    hq = root / "hq"
    (hq / "sub").mkdir(parents=True)
    for number, (height, width) in enumerate([(64, 64)] * 5 + [(64, 96)] * 3 + [(67, 93)]):
        picture = Image.fromarray(photos[number % 4][:height, 3 * number : 3 * number + width])
        picture.save(hq / ("sub" if number % 2 else "") / f"{number}.png")
    (hq / "broken.png").write_bytes((hq / "2.png").read_bytes()[:300])
    options = {
        "config": "pairs_natural.yaml",
        "ckpt_path": save_ckpt(tiny_denoiser(), root / "tiny.ckpt"),
        "data.hq_dir": hq,
        "data.num_workers": 1,
        "model.t_min": 0,
        "model.t_max": 60,
        "model.slots": 4,
        "model.threads": 1,
        "model.precision": "fp32",
        "model.variants": 4,
        "trainer.accelerator": "cpu",
    }
    return [str(word) for name, value in options.items() for word in (f"--{name}", value)]


@pytest.fixture(scope="module")
def environment():
    """What the processes are to know, with this environment's Python before others."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


def free_port():
    """Of those that Lightning takes for a SLURM job: 15000 and the last four digits of its number."""
    for port in range(15000, 25000):
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


def children(process):
    """Numbers of the processes that a process started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if path.read_text().rpartition(")")[2].split()[1] == str(process.pid):
                found.append(int(path.parent.name))
    return found


def _end(process):
    """With those that it started, which a launcher that is killed would leave."""
    for number in (*children(process), process.pid) if process.poll() is None else ():
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


@contextlib.contextmanager
def started(commands, folder):
    """Commands that run at the same time, each in a folder and an environment; ended at the latest with the block."""
    with contextlib.ExitStack() as stack:
        processes = []
        for number, (command, environment) in enumerate(commands):
            log = stack.enter_context((folder / f"{number}.log").open("w"))
            process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
            stack.callback(_end, process)
            processes.append(process)
        yield processes


def watch(processes, folder, until=lambda seen: False):
    """Which parts of manifests a pairs folder was seen to have, with their bytes, while processes ran."""
    seen, end = {}, time.monotonic() + 900
    while any(process.poll() is None for process in processes) and time.monotonic() < end and not until(seen):
        for path in folder.glob("manifest.rank*.jsonl"):
            with contextlib.suppress(FileNotFoundError):
                seen[path.name] = path.stat().st_size
        time.sleep(0.01)
    return seen


def run(commands, folder, out):
    """Run commands to their good ends; the ranks that made pairs while they ran."""
    with started(commands, folder) as processes:
        seen = watch(processes, folder / out)
        statuses = [process.poll() for process in processes]
    said = "".join((folder / f"{number}.log").read_text() for number in range(len(commands)))
    assert statuses == [0] * len(commands), said
    return {name for name, size in seen.items() if size}


def content(root):
    """All files with their bytes, without what may differ between equal runs."""
    paths = (path for path in root.rglob("*") if path.is_file())
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}
    return {name: data for name, data in files.items() if name not in ("run.yaml", "contact_sheet.png")}


def launchers(words, environment, out):
    """What is typed on two nodes for torchrun."""
    nodes = {**environment, "NNODES": "2", "GPUS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = ["bash", str(ROOT / "launch" / "torchrun.sh"), "predict", *words, "--output_dir", out]
    return [(command, {**nodes, "NODE_RANK": str(rank)}) for rank in range(2)]


@pytest.fixture(scope="module")
def whole(words, environment, tmp_path_factory):
    """What one process makes."""
    folder = tmp_path_factory.mktemp("alone")
    alone = [sys.executable, "-m", "ddpm_pairs", "predict", *words, "--output_dir", "pairs"]
    run([(alone, environment)], folder, "pairs")
    files = content(folder / "pairs")
    assert len(files) == 8 * 9 + 3  # HQ and LQ of four variants; manifest, meta_info, failures
    return files


@pytest.mark.slow
def test_under_torchrun(words, environment, whole, tmp_path):
    assert run(launchers(words, environment, "pairs"), tmp_path, "pairs") == BOTH
    assert content(tmp_path / "pairs") == whole


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the process by /proc")
def test_a_node_that_dies_loses_nothing(words, environment, whole, tmp_path):
    """What both nodes had written stays, and one process on one node makes the rest."""
    out = tmp_path / "pairs"
    with started(launchers(words, environment, "pairs"), tmp_path) as processes:
        watch(processes, out, until=lambda seen: all(seen.get(name) for name in BOTH))
        (worker,) = children(processes[1])
        os.kill(worker, signal.SIGKILL)
        watch(processes, out)
        assert all(process.poll() for process in processes)
    there = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    keys = [json.loads(line)["key"] for path in out.glob("manifest.rank*.jsonl") for line in path.open()]
    assert 2 <= len(keys) < 4 * 9

    (command, environment), _ = launchers(words, environment, "pairs")
    run([(command, environment | {"NNODES": "1"})], tmp_path, "pairs")
    assert content(out) == whole
    done = {out / kind / f"{key}.png" for key in keys for kind in ("hq", "lq")}
    assert all(path.stat().st_mtime_ns == there[path] for path in done)


@pytest.mark.slow
def test_under_slurm(words, environment, whole, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").write_text(SRUN)
    (tmp_path / "bin" / "srun").chmod(0o755)
    job = {
        "SLURM_JOB_ID": f"{free_port() - 15000:06d}",
        "SLURM_JOB_NAME": "ddpm_pairs",
        "SLURM_NNODES": "2",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_NODELIST": "127.0.0.1",
        "PATH": f"{tmp_path / 'bin'}:{environment['PATH']}",
    }
    batch = ["bash", str(ROOT / "launch" / "slurm.sbatch"), "predict", *words, "--output_dir", "pairs"]
    assert run([(batch, environment | job)], tmp_path, "pairs") == BOTH
    assert content(tmp_path / "pairs") == whole
