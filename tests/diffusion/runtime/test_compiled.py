import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
import yaml
from tiny_ddpm import save_ckpt, tiny_denoiser
from torch import nn

from ddpm_pairs.diffusion import Denoiser, Schedule
from ddpm_pairs.diffusion.runtime.compiled import CompiledDenoiser
from ddpm_pairs.synthesis import PairGenerator
from ddpm_pairs.synthesis.remake import main

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    yield
    torch._dynamo.reset()


class Undecided(nn.Module):
    """What it does depends on the picture's values, which no static graph can hold."""

    multiple = 8

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x_t, timestep):
        return self.conv(x_t) if x_t[0, 0, 0, 0] > -100 else x_t


class Smooth(nn.Module):
    """One convolution and something to fuse with it."""

    multiple = 8

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x_t, timestep):
        return torch.tanh(self.conv(x_t)) * (1 + timestep.view(-1, 1, 1, 1).to(x_t.dtype) / 60)


def generator_of(net, **options):
    generator = PairGenerator("bicubic", t_min=2, t_max=40, slots=4, threads=1, num_steps=3, compile=True, **options)
    generator.add_walk(Denoiser(net, Schedule(), t_max=60))
    return generator


def test_a_network_that_cannot_be_compiled_runs_as_it_is_and_says_so(hq_folder, tmp_path, predict, content):
    generator = generator_of(Undecided(), precision="fp32")
    with pytest.warns(UserWarning, match="cannot be compiled here .*; it runs uncompiled") as told:
        predict(generator, hq_folder, tmp_path / "pairs")
    assert len([one for one in told if "compiled" in str(one.message)]) == 1
    assert yaml.safe_load((tmp_path / "pairs" / "run.yaml").read_text())["machine"]["compile"] is False
    plain = PairGenerator("bicubic", t_min=2, t_max=40, slots=4, threads=1, num_steps=3, precision="fp32")
    plain.add_walk(Denoiser(generator.walk.denoiser.net, Schedule(), t_max=60))
    predict(plain, hq_folder, tmp_path / "plain")
    assert content(tmp_path / "pairs") == content(tmp_path / "plain")


def test_pairs_of_a_compiled_network_are_not_gone_on_with_without_one():
    generator = generator_of(Undecided())
    generator.runtime.adopt({"precision": "fp32", "compile": True, "slots": 4, "threads": 1})
    with pytest.raises(ValueError, match="made with a compiled network, which cannot be compiled here") as caught:
        generator.prepare(CPU)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_each_size_is_compiled_beyond_the_limit_on_recompilations(precision):
    denoiser = Denoiser(Smooth().to(precision), Schedule(), t_max=60)
    network, index = CompiledDenoiser(denoiser), torch.tensor([0, 9, 30, 59])
    counters = torch._dynamo.utils.counters
    counters.clear()
    with torch._dynamo.config.patch(recompile_limit=1):
        for side in (16, 24, 32):
            x_t = torch.randn(4, 3, side, 16)
            for layout in (torch.contiguous_format, torch.channels_last):
                with torch.inference_mode():
                    clean = network(x_t.contiguous(memory_format=layout), index)
                    torch.testing.assert_close(clean, denoiser(x_t, index), atol=0.05, rtol=0)
                    turned = network(x_t.roll(1, 0), index.roll(1, 0)).roll(-1, 0)
                assert torch.equal(turned, clean)
            network(x_t, index)  # outside inference mode as well
    assert counters["stats"]["unique_graphs"] == 3


@pytest.mark.slow
def test_a_compiled_folder_is_resumed_and_remade_bit_for_bit(hq_folder, tmp_path, predict, content):
    checkpoint = save_ckpt(tiny_denoiser((4,)), tmp_path / "tiny.ckpt")
    for key in ("B", "sub/c"):  # leaves one canvas
        (hq_folder / f"{key}.png").unlink()

    def run(compile):
        torch._dynamo.reset()
        generator = PairGenerator("bicubic", t_min=2, t_max=40, slots=4, threads=1, num_steps=2, compile=compile)
        generator.add_walk(tiny_denoiser((4,)))
        predict(generator, hq_folder, tmp_path / "pairs", checkpoint)
        return generator

    run(True)
    assert yaml.safe_load((tmp_path / "pairs" / "run.yaml").read_text())["machine"]["compile"] is True
    whole = content(tmp_path / "pairs")
    for name in ("lq/a.png", "hq/é.png"):
        (tmp_path / "pairs" / name).unlink()
    assert isinstance(run(False).walk.running(CPU), CompiledDenoiser)
    assert content(tmp_path / "pairs") == whole
    assert main(Namespace(pairs=tmp_path / "pairs", key="a", ckpt_path=None, degradation=None, output_dir=None)) == 0


SCRIPT = """
import json, sys, warnings
sys.path.insert(0, sys.argv[1])
import torch
from test_compiled import CPU, Smooth, generator_of

generator = generator_of(Smooth(), precision="fp32")
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    generator.prepare(CPU)
sentences = [str(one.message) for one in told if "cannot be compiled" in str(one.message)]
print(json.dumps({"told": sentences, "machine": generator.runtime.record()}))
"""


@pytest.mark.slow
def test_without_a_compiler_of_c_the_network_runs_as_it_is(tmp_path):
    here = Path(__file__).parent
    environment = {"CXX": str(tmp_path / "nowhere"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "c"), "HOME": "/root"}
    environment |= {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{here.parents[1]}:{here.parent}", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", SCRIPT, str(here)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["machine"]["compile"] is False
    (sentence,) = answer["told"]
    assert "compiler" in sentence and "\n" not in sentence
