import time
from argparse import Namespace

import pytest
import torch
import yaml
from forked_child import in_children
from lightning.pytorch.overrides.distributed import _sync_module_states
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from tiny_ddpm import save_ckpt, tiny_denoiser
from torch import nn

from ddpm_pairs.diffusion import Denoiser, Schedule
from ddpm_pairs.diffusion.runtime.compiled import CompiledDenoiser
from ddpm_pairs.diffusion.runtime.machine import Machine
from ddpm_pairs.diffusion.runtime.precision import choose_precision
from ddpm_pairs.synthesis import PairGenerator
from ddpm_pairs.synthesis.remake import main

CPU = torch.device("cpu")


class Slow(nn.Module):
    """Works as long, in milliseconds, as its precision says."""

    multiple = 8

    def __init__(self, fp32, bf16):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.times = {torch.float32: fp32 / 1000, torch.bfloat16: bf16 / 1000}

    def forward(self, x_t, timestep):
        end = time.process_time() + self.times[x_t.dtype]
        while time.process_time() < end:
            pass
        return self.conv(x_t)


def slow(fp32, bf16):
    return Denoiser(Slow(fp32, bf16), Schedule(), t_max=60)


@pytest.mark.parametrize(("fp32", "bf16", "choice"), [(90, 30, "bf16"), (30, 90, "fp32"), (33, 30, "fp32")])
def test_bf16_is_chosen_where_it_is_clearly_faster(fp32, bf16, choice):
    denoiser = slow(fp32, bf16)
    chosen, measured = choose_precision(denoiser, 4, CPU)
    assert chosen == choice
    assert measured["fp32_ms"] >= fp32 and measured["bf16_ms"] >= bf16
    assert (measured["pictures"], measured["side"]) == (4, 64)
    assert next(denoiser.parameters()).dtype == torch.float32


def test_what_was_chosen_is_recorded_and_kept(hq_folder, tmp_path, predict, content):
    def run(fp32, bf16):
        torch.manual_seed(4)
        generator = PairGenerator("bicubic", t_min=1, t_max=9, slots=4, threads=1, num_steps=2)
        generator.denoiser = slow(fp32, bf16)
        predict(generator, hq_folder, tmp_path / "pairs")
        return generator, yaml.safe_load((tmp_path / "pairs" / "run.yaml").read_text())["machine"]

    first, machine = run(60, 1)
    assert first.precision == machine["precision"] == "bf16" and machine["compile"] is False
    assert next(first.denoiser.parameters()).dtype == torch.bfloat16
    assert machine["precision_probe"]["fp32_ms"] >= 60 > machine["precision_probe"]["bf16_ms"]
    whole = content(tmp_path / "pairs")
    (tmp_path / "pairs" / "lq" / "a.png").unlink()
    second, again = run(1, 60)
    assert second.precision == "bf16" and again == machine
    assert content(tmp_path / "pairs") == whole


def test_a_precision_that_is_given_is_not_measured():
    machine = Machine(4, 1, "bf16", compile=False)
    placed = machine.prepare(slow(1, 1), CPU)
    assert next(placed.parameters()).dtype == torch.bfloat16
    assert machine.record() == {
        "precision": "bf16", "precision_probe": None, "compile": False, "slots": 4, "threads": 1
    }  # fmt: skip


def test_exact_pairs_in_bf16_depend_on_no_neighbour_and_are_remade(hq_folder, tmp_path, predict, content):
    checkpoint = save_ckpt(tiny_denoiser(), tmp_path / "tiny.ckpt")

    def run(**data):
        generator = PairGenerator("bicubic", t_min=1, t_max=7, slots=4, threads=1, mode="exact", precision="bf16")
        generator.denoiser = tiny_denoiser()
        predict(generator, hq_folder, tmp_path / "pairs", checkpoint, **data)

    run()
    whole = content(tmp_path / "pairs")
    for name in ("lq/b.png", "hq/é.png", "lq/B.png"):
        (tmp_path / "pairs" / name).unlink()
    run(batch_size=1)
    assert content(tmp_path / "pairs") == whole
    assert main(Namespace(pairs=tmp_path / "pairs", key="b", ckpt_path=None, output_dir=None)) == 0


def test_a_run_yaml_from_before_there_was_a_choice_is_taken_over():
    machine = Machine(8, 2, None, compile=True)
    machine.take_over({"precision": "fp32", "slots": 4, "threads": 1})
    assert machine.record() == {
        "precision": "fp32", "precision_probe": None, "compile": False, "slots": 4, "threads": 1
    }  # fmt: skip


def test_ranks_work_as_the_first_one_chose(tmp_path):
    """Each rank finds another precision faster, and only one has a compiled network."""

    def rank(number):
        def work():
            torch.distributed.init_process_group(
                "gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=number, world_size=2
            )
            environment = LightningEnvironment()
            environment.set_world_size(2)
            environment.set_global_rank(number)
            strategy = DDPStrategy(parallel_devices=[CPU, CPU], cluster_environment=environment)
            times = (60, 1) if number == 0 else (1, 60)
            machine = Machine(4, 1, None, compile=False)
            denoiser = machine.prepare(slow(*times), CPU)
            assert machine.precision == ("bf16", "fp32")[number]
            if number == 0:
                machine.compile, denoiser = True, CompiledDenoiser(denoiser)
            generator = PairGenerator("bicubic")
            generator.denoiser = denoiser
            _sync_module_states(generator)  # as Lightning does before predict begins
            denoiser = machine.agree(denoiser, strategy, CPU)
            assert next(denoiser.parameters()).dtype == torch.bfloat16
            assert machine.record()["precision"] == "bf16" and machine.precision_probe["fp32_ms"] >= 60
            assert machine.compile is False and type(denoiser) is Denoiser

        return work

    torch.set_num_threads(1)
    assert in_children([rank(0), rank(1)]) == [0, 0]
