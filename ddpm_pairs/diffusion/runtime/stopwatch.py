"""Time of the network in each precision, which ``ddpm-pairs doctor`` prints as advice; it has no other effect."""

import math
import time

import torch
from torch import Tensor

from ddpm_pairs.diffusion.denoiser import Denoiser
from ddpm_pairs.diffusion.runtime.runtime import DTYPES, noise_batch, placed, whole_multiple

ROUNDS = 3


@torch.inference_mode()
def measure_precisions(denoiser: Denoiser, slots: int, device: torch.device) -> dict[str, float]:
    """Measure one evaluation in each precision; the result is the fastest of three interleaved rounds.

    On a CPU, images have 64 px per side, and process time is measured, so that other load on the machine matters
    little. On a GPU, they have 256 px per side, to keep it busy.

    Args:
        denoiser: The denoiser as loaded, in fp32.
        slots: Number of images that the network processes together.
        device: The device to measure.

    Returns:
        Milliseconds by precision, ``fp32`` and ``bf16``.
    """
    side = whole_multiple(64 if device.type == "cpu" else 256, denoiser.multiple)
    images = noise_batch((slots, 3, side, side), denoiser.t_max, device)
    candidates = {name: placed(denoiser, device, name) for name in DTYPES}
    fastest = dict.fromkeys(candidates, math.inf)
    for warm in [False] + [True] * ROUNDS:
        for name, candidate in candidates.items():
            seconds = _seconds(candidate, *images)
            if warm:
                fastest[name] = min(fastest[name], seconds)
    return {name: 1000 * seconds for name, seconds in fastest.items()}


def _seconds(denoiser: Denoiser, x_t: Tensor, index: Tensor) -> float:
    """Time one evaluation: process time over all threads on a CPU, wall time until completion on a GPU."""
    clock = time.process_time if x_t.device.type == "cpu" else time.perf_counter
    begin = clock()
    denoiser(x_t, index).sum().item()
    return clock() - begin
