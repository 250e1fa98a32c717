"""In which precision the network runs: bf16 where it is measured to be clearly faster than fp32."""

import copy
import math
import time

import torch
from torch import Tensor

from ddpm_pairs.diffusion.denoiser import Denoiser
from ddpm_pairs.diffusion.runtime.rows import noise_batch, whole_multiple

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

LEAST_GAIN = 1.3
"""bf16 rounds more coarsely, so it has to be so many times as fast as fp32."""

ROUNDS = 3


def placed(denoiser: Denoiser, device: torch.device, precision: str) -> Denoiser:
    """The denoiser on a device in ``fp32`` or ``bf16``, channels last: a copy, unless it is there and in it already."""
    weights, dtype = next(denoiser.parameters()), DTYPES[precision]
    if (weights.device, weights.dtype) != (device, dtype):
        denoiser = copy.deepcopy(denoiser).to(device=device, dtype=dtype)
    return denoiser.to(memory_format=torch.channels_last)


@torch.inference_mode()
def choose_precision(denoiser: Denoiser, slots: int, device: torch.device) -> tuple[str, dict[str, float | int]]:
    """Measure the network in both precisions on a device.

    On a CPU pictures have 64 px a side and this process's time counts, so that what else the machine does matters
    little; on a GPU they have 256 px, which it needs to be busy. The fastest of three interleaved rounds counts.

    Returns:
        ``bf16`` if it was at least ``LEAST_GAIN`` times as fast as fp32, else ``fp32``; and what was measured:
        milliseconds of one evaluation under ``fp32_ms`` and ``bf16_ms``, and its ``pictures`` and their ``side``.
    """
    side = whole_multiple(64 if device.type == "cpu" else 256, denoiser.multiple)
    pictures = noise_batch((slots, 3, side, side), denoiser.t_max, device)
    candidates = {name: placed(denoiser, device, name) for name in DTYPES}
    fastest = dict.fromkeys(candidates, math.inf)
    for warm in [False] + [True] * ROUNDS:
        for name, candidate in candidates.items():
            seconds = _seconds(candidate, *pictures)
            if warm:
                fastest[name] = min(fastest[name], seconds)
    choice = "bf16" if fastest["fp32"] >= LEAST_GAIN * fastest["bf16"] else "fp32"
    measured = {f"{name}_ms": round(1000 * seconds, 3) for name, seconds in fastest.items()}
    return choice, measured | {"pictures": slots, "side": side}


def _seconds(denoiser: Denoiser, x_t: Tensor, index: Tensor) -> float:
    """How long one evaluation takes: of all this process's threads on a CPU, and until a GPU is done."""
    clock = time.process_time if x_t.device.type == "cpu" else time.perf_counter
    begin = clock()
    denoiser(x_t, index).sum().item()
    return clock() - begin
