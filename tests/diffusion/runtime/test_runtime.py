from argparse import Namespace

import pytest
import torch
import yaml
from forked_child import in_children
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from tiny_ddpm import save_ckpt, tiny_denoiser
from torch import nn

from ddpm_pairs.diffusion import Denoiser, Schedule
from ddpm_pairs.diffusion.runtime import stopwatch
from ddpm_pairs.diffusion.runtime.compiled import CompiledDenoiser
from ddpm_pairs.diffusion.runtime.runtime import Runtime, native_precision
from ddpm_pairs.diffusion.runtime.stopwatch import measure_precisions
from ddpm_pairs.synthesis import PairGenerator
from ddpm_pairs.synthesis.remake import main

CPU = torch.device("cpu")


class Slow(nn.Module):
    """Takes, by its own clock, the next of the times in milliseconds of its precision; the last one stays."""

    multiple = 8

    def __init__(self, fp32=(1,), bf16=(1,), clock=None):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.times = {torch.float32: fp32, torch.bfloat16: bf16}
        self.clock, self.calls = clock, 0

    def forward(self, x_t, timestep):
        if self.clock is not None:
            times = self.times[x_t.dtype]
            self.clock.now += times[min(self.calls, len(times) - 1)] / 1000
        self.calls += 1
        return self.conv(x_t)


class Clock:
    """The time that ``Slow`` takes, and no other."""

    now = 0.0

    def __deepcopy__(self, memo):
        return self

    def process_time(self):
        return self.now


def slow():
    return Denoiser(Slow(), Schedule(), t_max=60)


@pytest.mark.parametrize(
    ("capability", "avx", "amx", "cuda", "cpu"),
    [
        ((7, 5), False, False, "fp32", "fp32"),
        ((8, 0), True, False, "bf16", "bf16"),
        ((9, 0), False, True, "bf16", "bf16"),
    ],
)
def test_bf16_is_used_where_the_device_has_it(monkeypatch, capability, avx, amx, cuda, cpu):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert native_precision(torch.device("cuda", 0)) == cuda and native_precision(CPU) == cpu
    assert native_precision(torch.device("mps")) == "fp32"


def test_the_stopwatch_takes_the_fastest_of_three_warm_rounds_and_changes_nothing(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(stopwatch, "time", clock)
    denoiser = Denoiser(Slow((10, 95, 90, 92, 1), (500, 33, 31, 30, 1), clock), Schedule(), t_max=60)
    measured = measure_precisions(denoiser, 4, CPU)
    assert measured == pytest.approx({"fp32": 90, "bf16": 30})  # the first round, cold, does not count
    assert next(denoiser.parameters()).dtype == torch.float32


@pytest.mark.parametrize("native", ["fp32", "bf16"])
def test_what_was_chosen_is_recorded_and_kept(hq_folder, tmp_path, predict, content, monkeypatch, native):
    def run(found):
        monkeypatch.setattr("ddpm_pairs.diffusion.runtime.runtime.native_precision", lambda device: found)
        torch.manual_seed(4)
        generator = PairGenerator("bicubic", t_min=1, t_max=9, slots=4, threads=1, num_steps=2)
        generator.add_walk(slow())
        predict(generator, hq_folder, tmp_path / "pairs")
        return generator, yaml.safe_load((tmp_path / "pairs" / "run.yaml").read_text())["machine"]

    first, machine = run(native)
    assert first.runtime.precision == machine["precision"] == native and machine["compile"] is False
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[native]
    assert next(first.walk.running(CPU).parameters()).dtype == dtype
    whole = content(tmp_path / "pairs")
    (tmp_path / "pairs" / "lq" / "a.png").unlink()
    second, again = run({"fp32": "bf16", "bf16": "fp32"}[native])
    assert second.runtime.precision == native and again == machine
    assert content(tmp_path / "pairs") == whole


def test_a_precision_that_is_given_is_kept():
    runtime = Runtime(4, 1, "bf16")
    assert next(runtime.place(slow(), CPU).parameters()).dtype == torch.bfloat16
    assert runtime.record() == {"precision": "bf16", "compile": False, "slots": 4, "threads": 1}


@pytest.mark.parametrize("options", [{"slots": 5}, {"threads": 3}, {"precision": "fp16"}])
def test_values_are_checked(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"{name}: got .*; expected"):
        Runtime(**options)


def test_threads_stay_as_they_are_unless_they_are_given():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    Runtime().place(tiny_denoiser(), CPU)
    assert torch.get_num_threads() == 2
    Runtime(threads=1).place(tiny_denoiser(), CPU)
    assert torch.get_num_threads() == 1
    torch.set_num_threads(before)


def test_exact_pairs_in_bf16_depend_on_no_neighbour_and_are_remade(hq_folder, tmp_path, predict, content):
    checkpoint = save_ckpt(tiny_denoiser(), tmp_path / "tiny.ckpt")

    def run(**data):
        generator = PairGenerator("bicubic", t_min=1, t_max=7, slots=4, threads=1, mode="exact", precision="bf16")
        generator.add_walk(tiny_denoiser())
        predict(generator, hq_folder, tmp_path / "pairs", checkpoint, **data)

    run()
    whole = content(tmp_path / "pairs")
    for name in ("lq/b.png", "hq/é.png", "lq/B.png"):
        (tmp_path / "pairs" / name).unlink()
    run(batch_size=1)
    assert content(tmp_path / "pairs") == whole
    assert main(Namespace(pairs=tmp_path / "pairs", key="b", ckpt_path=None, degradation=None, output_dir=None)) == 0


def test_a_run_yaml_from_before_there_was_a_choice_is_adopted():
    runtime = Runtime(8, 2, None, compile=True)
    runtime.adopt({"precision": "fp32", "slots": 4, "threads": 1})
    assert runtime.record() == {"precision": "fp32", "compile": False, "slots": 4, "threads": 1}


def test_ranks_work_as_the_first_one_chose(tmp_path):
    """Each rank has another precision, and only one has a compiled network."""

    def rank(number):
        def work():
            torch.distributed.init_process_group(
                "gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=number, world_size=2
            )
            environment = LightningEnvironment()
            environment.set_world_size(2)
            environment.set_global_rank(number)
            strategy = DDPStrategy(parallel_devices=[CPU, CPU], cluster_environment=environment)
            runtime, denoiser = Runtime(4, 1, ("bf16", "fp32")[number]), slow()
            running = runtime.place(denoiser, CPU)
            if number == 0:
                runtime.compile, running = True, CompiledDenoiser(running)
            running = runtime.agree(denoiser, running, strategy, CPU)
            assert next(running.parameters()).dtype == torch.bfloat16
            assert runtime.record() == {"precision": "bf16", "compile": False, "slots": 4, "threads": 1}
            assert type(running) is Denoiser

        return work

    torch.set_num_threads(1)
    assert in_children([rank(0), rank(1)]) == [0, 0]
