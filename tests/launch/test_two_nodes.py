"""Two nodes on one machine, one process each, make what one process makes."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from PIL import Image
from processes import ROOT, children, content, free_port, launchers, run, started, watch
from tiny_ddpm import save_ckpt, tiny_denoiser

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
    assert run(launchers("predict", words, environment, "pairs"), tmp_path, "pairs") == BOTH
    assert content(tmp_path / "pairs") == whole


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the process by /proc")
def test_a_node_that_dies_loses_nothing(words, environment, whole, tmp_path):
    """What both nodes had written stays, and one process on one node makes the rest."""
    out = tmp_path / "pairs"
    with started(launchers("predict", words, environment, "pairs"), tmp_path) as processes:
        watch(processes, out, until=lambda seen: all(seen.get(name) for name in BOTH))
        (worker,) = children(processes[1])
        os.kill(worker, signal.SIGKILL)
        watch(processes, out)
        assert all(process.poll() for process in processes)
    there = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    keys = [json.loads(line)["key"] for path in out.glob("manifest.rank*.jsonl") for line in path.open()]
    assert 2 <= len(keys) < 4 * 9

    (command, environment), _ = launchers("predict", words, environment, "pairs")
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
