"""One batch of pairs: what is drawn for a picture, and the way there and back through the diffusion."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ddpm_pairs.devices import to_device
from ddpm_pairs.diffusion.denoiser import Denoiser
from ddpm_pairs.diffusion.process import add_noise
from ddpm_pairs.diffusion.samplers import SAMPLERS, Plan, index_grid, make_plan, walk_back
from ddpm_pairs.diffusion.schedule import Schedule
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.pixels import psnr_of
from ddpm_pairs.seeding import seed_of

MODES = {
    "fast": ("sde-dpmsolver++", 8),
    "default": ("sde-dpmsolver++", 12),
    "high": ("sde-dpmsolver++", 20),
    "exact": ("ancestral", None),
}
"""Sampler and network evaluations of each mode; ``None`` visits every step."""


@dataclass(frozen=True)
class Sampling:
    """How pictures walk back.

    Args:
        sampler: One of ``sde-dpmsolver++``, ``dpmsolver++``, ``ddim``, ``ancestral``.
        num_steps: Network evaluations a picture at most; ``None`` visits every step.
        eta: Noise of ``ddim``, 0..1.

    Raises:
        UserError: for values outside these.
    """

    sampler: str = "sde-dpmsolver++"
    num_steps: int | None = 12
    eta: float = 0.0

    def __post_init__(self) -> None:
        """Check the values."""
        if self.sampler not in SAMPLERS:
            raise UserError(f"sampler {self.sampler!r} is unknown: expected one of {', '.join(SAMPLERS)}")
        if self.num_steps is not None and self.num_steps < 1:
            raise UserError(f"num_steps is {self.num_steps}: expected 1 or more")
        if not 0 <= self.eta <= 1:
            raise UserError(f"eta is {self.eta}: expected 0 to 1")

    @classmethod
    def of_mode(
        cls, mode: str, sampler: str | None = None, num_steps: int | None = None, eta: float = 0.0
    ) -> "Sampling":
        """What a mode stands for, in its own values where none are given.

        Args:
            mode: One of ``MODES``.
            sampler: Instead of the mode's.
            num_steps: Instead of the mode's.
            eta: Noise of ``ddim``, 0..1.

        Raises:
            UserError: for an unknown mode or values outside their range.
        """
        if mode not in MODES:
            raise UserError(f"mode is {mode}: expected one of {', '.join(MODES)}")
        usual_sampler, usual_steps = MODES[mode]
        return cls(sampler or usual_sampler, usual_steps if num_steps is None else num_steps, eta)

    def plan(self, schedule: Schedule, t: int) -> Plan:
        """The plan from step ``t``."""
        return make_plan(schedule, t, self.sampler, self.num_steps, self.eta)

    def evaluations(self, schedule: Schedule, t: int) -> int:
        """Network evaluations from step ``t``."""
        return _evaluations(schedule, t, self.num_steps)

    def told(self, schedule: Schedule | None, t: int) -> dict[str, Any]:
        """What a manifest line tells of the walk back from step ``t``; no schedule is needed for t = 0."""
        return {
            "t": t,
            "logsnr": round(schedule.log_snr_at(t), 6) if t > 0 else None,
            "sampler": self.sampler,
            "num_steps": self.num_steps,
            "evaluations": self.evaluations(schedule, t) if t > 0 else 0,
        }


@lru_cache(maxsize=4096)
def _evaluations(schedule: Schedule, t: int, num_steps: int | None) -> int:
    return len(index_grid(schedule, t, num_steps))


def generator_for(seed: int, key: str, stream: str, device: torch.device | str = "cpu") -> torch.Generator:
    """The random generator of one picture and one purpose, by BLAKE2b of (seed, key, stream)."""
    return torch.Generator(device).manual_seed(seed_of(seed, key, stream))


def draw_t(seed: int, key: str, t_min: int, t_max: int, weights: Sequence[float] | None = None) -> int:
    """The picture's t over t_min..t_max, both included.

    Args:
        seed: The run's seed.
        key: The picture's key.
        t_min: Smallest t.
        t_max: Largest t.
        weights: Of equally long bands from t_min to t_max; t is uniform within its band. ``None``: one band.
    """
    generator = generator_for(seed, key, "t")
    first, end = t_min, t_max + 1
    if weights is not None:
        shares = torch.tensor(weights, dtype=torch.float64).cumsum(0)
        drawn = torch.rand((), generator=generator, dtype=torch.float64) * shares[-1]
        band = int(torch.searchsorted(shares, drawn, right=True))
        first, end = (t_min + (t_max + 1 - t_min) * edge // len(weights) for edge in (band, band + 1))
    return int(torch.randint(first, end, (), generator=generator))


def check_t(t_min: int, t_max: int, weights: Sequence[float] | None = None) -> None:
    """Check the distribution of ``draw_t``.

    Raises:
        UserError: for a range that is none, or weights that are not those of bands of it.
    """
    if None in (t_min, t_max) or not 0 <= t_min <= t_max:
        raise UserError(f"t_min is {t_min} and t_max {t_max}: expected 0 <= t_min <= t_max")
    if weights is None:
        return
    if not 1 <= len(weights) <= t_max + 1 - t_min:
        raise UserError(
            f"t_weights has {len(weights)} weights: expected 1 to {t_max + 1 - t_min}, the number of t in "
            f"{t_min}..{t_max}"
        )
    if not all(0 <= weight < math.inf for weight in weights) or not 0 < sum(weights) < math.inf:
        raise UserError(f"t_weights is {list(weights)}: expected numbers from 0 on, not all of them 0")


def synthesize(
    denoiser: Denoiser, initial_lq: Tensor, ts: list[int], keys: list[str], seed: int, sampling: Sampling
) -> Tensor:
    """Noise initial LQ pictures to their steps and walk them back (Yang et al. section 3.3).

    On CUDA everything is queued; the host waits for nothing.

    Args:
        denoiser: The trained DDPM, on the device of the pictures.
        initial_lq: (N, 3, h, w), float32 in [0, 1], sides multiples of ``denoiser.multiple``.
        ts: Steps of each picture; 0 leaves it untouched.
        keys: From which, with ``seed``, all noise of a picture is drawn.
        seed: The run's seed.
        sampling: Sampler and number of evaluations.

    Returns:
        (N, 3, h, w), float32 in [0, 1]. Row n depends on picture n, ts[n] and keys[n] alone.
    """
    device = initial_lq.device
    x_0 = initial_lq * 2 - 1
    plans = [sampling.plan(denoiser.schedule, t) for t in ts]
    noise = x_0.new_empty(x_0.shape)
    for picture, key in zip(noise, keys, strict=True):
        picture.normal_(generator=generator_for(seed, key, "noise", device))
    start = to_device(torch.tensor([max(t - 1, 0) for t in ts]), device)
    walks = [generator_for(seed, key, "steps", device) for key in keys]
    x_t = add_noise(x_0, noise, start, denoiser.schedule.alpha_bars_on(device))
    lq = (walk_back(denoiser, x_t, plans, walks) + 1) / 2
    untouched = to_device(torch.tensor([t == 0 for t in ts]), device).view(-1, 1, 1, 1)
    return torch.where(untouched, initial_lq, lq.clamp(0, 1))


def psnr_against_hq(hq: Tensor, lq: Tensor) -> float | None:
    """PSNR in dB of one HQ picture against its LQ, enlarged bicubically (a = -0.5, 8 bits) to HQ size.

    Args:
        hq: (3, H, W), uint8.
        lq: (3, h, w), uint8.

    Returns:
        dB with peak 255, or ``None`` for equal pictures.
    """
    psnr = psnr_of(hq, lq)
    return None if psnr == math.inf else round(psnr, 4)
