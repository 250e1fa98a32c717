"""How long the network takes in each precision: advice of ``ddpm-pairs doctor``, which decides nothing."""

import math
import time

import torch
from torch import Tensor

from ddpm_pairs.diffusion.denoiser import Denoiser
from ddpm_pairs.diffusion.runtime.runtime import DTYPES, noise_batch, placed, whole_multiple

ROUNDS = 3


@torch.inference_mode()
def measure_precisions(denoiser: Denoiser, slots: int, device: torch.device) -> dict[str, float]:
    """Milliseconds of one evaluation in each precision, the fastest of three interleaved rounds.

    On a CPU images have 64 px a side and this process's time counts, so that other load on the machine matters little;
    on a GPU they have 256 px, which are needed to keep it busy.

    Args:
        denoiser: As it was loaded, in fp32.
        slots: Images that go through the network together.
        device: Where to run it.

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
    """Duration of one evaluation: of all this process's threads on a CPU, and until a GPU is done."""
    clock = time.process_time if x_t.device.type == "cpu" else time.perf_counter
    begin = clock()
    denoiser(x_t, index).sum().item()
    return clock() - begin
