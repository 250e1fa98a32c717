import importlib.util
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fidelity import spread
from tiny_ddpm import save_ckpt, tiny_denoiser
from torch import nn
from walks import ANCESTRAL, MODES, P_SAMPLE, TITLES, UNIPC, Job, build

from ddpm_pairs.diffusion import Denoiser, Schedule

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
PEER = importlib.util.find_spec("denoising_diffusion_pytorch") is not None
SPREAD = 0.25


class Gaussian(nn.Module):
    """The best prediction of the noise for white pictures of standard deviation ``SPREAD`` in [-1, 1]."""

    def __init__(self):
        super().__init__()
        self.alpha_bars = nn.Parameter(Schedule("cosine", 1000).alpha_bars.float())

    def forward(self, x_t, index):
        alpha_bar = self.alpha_bars[index].view(-1, 1, 1, 1).to(x_t.dtype)
        return x_t * (1 - alpha_bar).sqrt() / (alpha_bar * SPREAD**2 + 1 - alpha_bar)


def ways():
    return [name for name in TITLES if name != P_SAMPLE or PEER]


def run(script, *options):
    done = subprocess.run([sys.executable, BENCHMARKS / script, *options], capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    assert all(len(row) == len(header) for row in rows)
    return [dict(zip(header, row, strict=True)) for row in rows]


@pytest.mark.parametrize("name", [name for name in ways() if name not in ("fast", "high")])
def test_every_way_makes_the_evaluations_it_tells_of(name):
    walk = build(name, tiny_denoiser(), torch.device("cpu"), 1, 2)
    walk.evaluated = 0  # what preparing took
    job = Job(torch.rand(4, 3, 16, 16), [60, 3, 21, 60])
    lq = walk.run(job)
    assert lq.shape == job.starts.shape and lq.dtype == torch.uint8
    needed = [walk.needs(t) for t in job.ts]
    in_lockstep = sum(2 * most for most in sorted(needed)[1::2])
    assert walk.evaluated == (in_lockstep if name in MODES else sum(needed))
    assert needed == {"default": [12, 3, 11, 12], UNIPC: [3, 0, 1, 3]}.get(name, job.ts)


def test_ancestral_walks_agree_on_gaussian_pictures():
    # independent code for one method: the same spread of pixels comes out, and the same share of the start stays
    starts = (torch.randn(4, 3, 48, 48, generator=torch.Generator().manual_seed(0)) * SPREAD / 2 + 0.5).clamp(0, 1)
    found = {}
    for name in (ANCESTRAL, "exact", *([P_SAMPLE] if PEER else [])):
        denoiser = Denoiser(Gaussian(), Schedule("cosine", 1000))
        walk = build(name, denoiser, torch.device("cpu"), 1, 4)
        lq = walk.run(Job(starts, [250] * 4)).float() / 255
        found[name] = float(lq.std() * 2), float(torch.corrcoef(torch.stack([lq.ravel(), starts.ravel()]))[0, 1])
    alpha_bar = float(Schedule("cosine", 1000).alpha_bars[249])
    kept = alpha_bar * SPREAD**2 / (alpha_bar * SPREAD**2 + 1 - alpha_bar)
    for spread_found, correlation in found.values():
        assert spread_found == pytest.approx(SPREAD, rel=0.04)
        assert correlation == pytest.approx(kept, abs=0.02)


def test_unipc_on_its_coarse_grid_loses_fine_noise_that_ours_keeps():
    starts = (torch.randn(4, 3, 48, 48, generator=torch.Generator().manual_seed(0)) * 5 / 255 + 0.5).clamp(0, 1)

    class Fine(Gaussian):
        def forward(self, x_t, index):
            alpha_bar = self.alpha_bars[index].view(-1, 1, 1, 1).float()  # bf16 would lose the difference to 1
            return x_t * ((1 - alpha_bar).sqrt() / (alpha_bar * (10 / 255) ** 2 + 1 - alpha_bar)).to(x_t.dtype)

    power = {}
    for name in ("default", UNIPC):
        walk = build(name, Denoiser(Fine(), Schedule("linear", 1000)), torch.device("cpu"), 1, 4)
        power[name] = float(walk.run(Job(starts, [100] * 4)).float().var() / 5**2)
    assert 10 * math.log10(power["default"]) > -1.0
    assert 10 * math.log10(power[UNIPC]) < -3.0


def test_spread_is_even_and_in_random_order():
    ts = spread(500, 100, 0)
    assert sorted(ts) == sorted(set(ts)) and min(ts) >= 1 and max(ts) <= 500
    assert sum(ts) / 100 == pytest.approx(250, abs=1)
    assert ts != sorted(ts)
    assert spread(500, 100, 0) == ts != spread(500, 100, 1)


@pytest.mark.slow
def test_synthesis_prints_a_row_for_each_way_and_reference(tmp_path):
    checkpoint = save_ckpt(tiny_denoiser(), tmp_path / "tiny.ckpt")
    options = ["--pictures", "2", "--batches", "2", "--rounds", "1", "--t_max", "40", "--threads", "1"]
    rows = run("synthesis.py", "--ckpt_path", checkpoint, "--sides", "32", "--fidelity", "2", *options)
    assert [row["method"] for row in rows] == [*(TITLES[name] for name in ways()), "initial LQ"]
    speeds = rows[:-1]
    assert all(float(row["pairs/s"]) > 0 and float(row["evaluations/s"]) > 0 for row in speeds)
    evaluations = [float(row["evaluations per pair"]) for row in speeds]
    assert evaluations[0] <= 8 < evaluations[1] <= 12 < evaluations[2] <= 20  # for t of 10 and 30
    assert evaluations[3:] == [20.0, 20.0, 0.5, *([20.0] if PEER else [])]
    assert all(row["power against ancestral, dB, finest 3 octaves"].count("/") == 2 for row in rows)


@pytest.mark.slow
def test_training_step_prints_a_row_for_each_loop_and_network():
    options = ["--side", "32", "--batch", "2", "--steps", "1", "--rounds", "1", "--threads", "1"]
    rows = run("train_step.py", "--precisions", "fp32", *options)
    loops = {row["loop"] for row in rows}
    assert loops == {"ours", "diffusers' example", *(["denoising-diffusion-pytorch"] if PEER else [])}
    assert all(float(row["ms per step"]) > 0 for row in rows)
    sizes = [float(row["parameters, M"]) for row in rows]
    assert max(sizes) / min(sizes) < 1.15


@pytest.mark.slow
def test_parts_of_the_gpu_report_run_on_a_cpu(tmp_path):
    parts = ["Machine", "Synthesis at 256 px", "Training step at 256 px"]
    words = ["--rehearse", "--output_dir", tmp_path, "--only", *parts]
    subprocess.run([sys.executable, BENCHMARKS / "gpu_report.py", *words], check=True, capture_output=True)
    text = (tmp_path / "gpu.md").read_text()
    assert all(f"## {part}" in text for part in parts) and "failed" not in text


@pytest.mark.slow
def test_learned_degradations_are_timed_against_real_esrgan():
    rows = run("learned_degradations.py", "--rounds", "1")
    assert [row["degradation"] for row in rows][:2] == ["real_esrgan", "dsgan"] and rows[0]["ratio"] == "1.00"
    assert {row["degradation"]: row["parameters"] for row in rows}["dasr"] == "0.668 M"
    for row in rows:
        assert float(row["ratio"]) == pytest.approx(float(row["images/s"]) / float(rows[0]["images/s"]), abs=0.02)
