"""Shared by the benchmarks: description and speed bound of the machine, alternating timing, and peak memory."""

import ctypes
import multiprocessing
import os
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
TRIALS = 5


def describe(device: torch.device, threads: int) -> str:
    """Return one line with the device, instruction sets, threads, and torch version."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = re.search(r"model name\s*: (.*)", info)
    flags = re.search(r"(?:flags|Features)\s*: (.*)", info)
    held = set(flags[1].split()) if flags else set()
    sets = " ".join(kind for kind in INSTRUCTION_SETS if kind in held)
    cpu = f"{name[1] if name else 'CPU'}, {os.cpu_count()} CPUs ({sets}; torch uses {_capability()}), {threads} threads"
    gpu = f"{torch.cuda.get_device_name(device)}, " if device.type == "cuda" else ""
    return f"{gpu}{cpu}, torch {torch.__version__}"


def flops_a_second(device: torch.device, precisions: Sequence[str] = tuple(DTYPES)) -> tuple[float, str]:
    """Return the speed bound: FLOP/s of a large matrix product in the fastest precision, and that precision.

    Args:
        device: Device on which it runs.
        precisions: Keys of ``DTYPES`` to try.
    """
    side = 8192 if device.type == "cuda" else 1024
    best = {}
    for precision in precisions:
        left, right = (torch.randn(side, side, device=device).to(DTYPES[precision]) for _ in range(2))
        product = partial(torch.mm, left, right)
        product()
        best[precision] = 2 * side**3 / min(timed(product, device) for _ in range(TRIALS))
    precision = max(best, key=best.get)
    return best[precision], precision


def flops_of(net: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Return the floating-point operations of one forward pass."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(*inputs)
    return counter.get_total_flops()


def in_turns(contestants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Return the median measurement of each contestant; rounds alternate, so other load affects all equally."""
    measured = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            measured[name].append(contestant())
    return {name: statistics.median(values) for name, values in measured.items()}


def timed(work: Callable[[], Any], device: torch.device) -> float:
    """Return the seconds of a call, including the work that it queued on the device."""
    _finish(device)
    start = time.perf_counter()
    work()
    _finish(device)
    return time.perf_counter() - start


def peak_memory(device: torch.device, prepare: Callable[..., Callable[[], Any]], *arguments: Any) -> float:
    """Return the MiB that a piece of work adds at its peak to the memory used before it.

    On a CPU, this is the resident memory of a fresh process (NaN if the system does not report it); on CUDA, the memory
    that torch allocates.

    Args:
        device: Device on which it runs.
        prepare: A function at module level. ``prepare(*arguments)`` does the preparation, which is not counted, and
            returns the work, a callable that can be repeated.
        arguments: Plain values.
    """
    if device.type == "cuda":
        return _added_on_cuda(prepare(*arguments))
    if not Path("/proc/self/clear_refs").exists():
        return float("nan")
    multiprocessing.set_forkserver_preload(["ddpm_pairs.synthesis"])  # so that a fresh process has it loaded
    with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as alone:
        return alone.submit(_added_on_cpu, prepare, arguments).result()


def table_row(cells: Sequence[object]) -> str:
    """Return one row of a Markdown table."""
    return "| " + " | ".join(map(str, cells)) + " |"


def _added_on_cpu(prepare: Callable[..., Callable[[], Any]], arguments: tuple[Any, ...]) -> float:
    work = prepare(*arguments)
    ctypes.CDLL(None).malloc_trim(0)  # otherwise the work may reuse memory that the preparation left
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    before = _resident()
    work()
    return _resident() - before


def _added_on_cuda(work: Callable[[], Any]) -> float:
    work()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def _resident() -> float:
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 2**10


def _capability() -> str:
    return torch.backends.cpu.get_cpu_capability()


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
