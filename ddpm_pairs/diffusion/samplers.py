r"""Denoising from step t: every sampler is the same update, with four coefficients per step.

With :math:`m_0` the current clean prediction and :math:`m_1` the one before it, each step is

.. math:: x \leftarrow a_x x + a_{m0} m_0 + a_{m1} m_1 + a_z z, \qquad z \sim N(0, 1).

A sampler is a function from a decreasing list of table indices, which may end anywhere, to these coefficients. The step
after the last index ends at the clean image. The plans of a batch are padded on the left, so the whole batch is
denoised in lockstep and ends together, although each image has its own t and its own grid.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ddpm_pairs.diffusion.schedule import Schedule
from ddpm_pairs.errors import UserError
from ddpm_pairs.tensors import to_device

SAMPLERS = ("sde-dpmsolver++", "dpmsolver++", "ddim", "ancestral")
CURVE = 1.2
"""Shape of the grid: 1 is uniform in log-SNR; larger values make the steps near t smaller than those near t = 0."""
Coefficients = list[tuple[float, float, float, float]]


MODES = {
    "fast": ("sde-dpmsolver++", 8),
    "default": ("sde-dpmsolver++", 12),
    "high": ("sde-dpmsolver++", 20),
    "exact": ("ancestral", None),
}
"""Sampler and network evaluations of each mode; ``None`` visits every step."""


MOST_STEPS = 10_000
"""Largest number of steps; more than a schedule has would have no effect."""


@dataclass(frozen=True)
class Plan:
    """Steps that denoise one image: table indices, and (a_x, a_m0, a_m1, a_z) of each step."""

    indices: list[int]
    coefficients: Coefficients

    def __len__(self) -> int:
        """Return the number of network evaluations."""
        return len(self.indices)


@dataclass(frozen=True)
class Sampling:
    """Sampler settings for denoising.

    Args:
        sampler: One of ``sde-dpmsolver++``, ``dpmsolver++``, ``ddim``, ``ancestral``.
        num_steps: Maximum number of network evaluations per image; ``None`` visits every step.
        eta: Noise of ``ddim``, 0..1.

    Raises:
        UserError: If a value is out of range.
    """

    sampler: str = "sde-dpmsolver++"
    num_steps: int | None = 12
    eta: float = 0.0

    def __post_init__(self) -> None:
        """Check the values."""
        if self.sampler not in SAMPLERS:
            raise UserError(f"sampler: got {self.sampler!r}; expected one of {', '.join(SAMPLERS)}")
        if self.num_steps is not None and not 1 <= self.num_steps <= MOST_STEPS:
            raise UserError(f"num_steps: got {self.num_steps}; expected 1 to {MOST_STEPS}")
        if not 0 <= self.eta <= 1:
            raise UserError(f"eta: got {self.eta}; expected a number from 0 to 1")

    @classmethod
    def of(cls, asked: "Sampling | dict[str, Any] | str") -> "Sampling":
        """Build a ``Sampling`` from its values or from the name of a mode; return an existing one as it is."""
        if isinstance(asked, str):
            return cls.of_mode(asked)
        return cls(**asked) if isinstance(asked, dict) else asked

    @classmethod
    def of_mode(
        cls, mode: str, sampler: str | None = None, num_steps: int | None = None, eta: float = 0.0
    ) -> "Sampling":
        """Build the settings of a mode; given values override those of the mode.

        Args:
            mode: One of ``MODES``.
            sampler: Overrides the mode's sampler.
            num_steps: Overrides the mode's number of evaluations.
            eta: Noise of ``ddim``, 0..1.

        Raises:
            UserError: If the mode is unknown, or a value is out of range.
        """
        if mode not in MODES:
            raise UserError(f"mode: got {mode!r}; expected one of {', '.join(MODES)}")
        usual_sampler, usual_steps = MODES[mode]
        return cls(sampler or usual_sampler, usual_steps if num_steps is None else num_steps, eta)

    def plan(self, schedule: Schedule, t: int) -> Plan:
        """Return the plan from step ``t``; recent plans are cached."""
        return _plan(self, schedule, t)

    def facts(self, schedule: Schedule | None, t: int) -> dict[str, Any]:
        """Return the top-level values of a manifest line for step ``t``; no schedule is needed for t = 0."""
        return {
            "t": t,
            "logsnr": round(float(schedule.log_snr[t - 1]), 6) if t > 0 else None,
            "sampler": self.sampler,
            "num_steps": self.num_steps,
            "evaluations": len(self.plan(schedule, t)) if t > 0 else 0,
        }


@lru_cache(maxsize=256)
def _plan(sampling: Sampling, schedule: Schedule, t: int) -> Plan:
    return make_plan(schedule, t, sampling.sampler, sampling.num_steps, sampling.eta)


def index_grid(schedule: Schedule, t: int, num_steps: int | None) -> list[int]:
    """Choose the table indices to visit from step ``t``, decreasing from t - 1 to 0.

    Steps spread over log-SNR that end at index 0 preserve the fine noise that steps uniform in t remove. With a trained
    network, which is not ideal, 12 steps uniform in log-SNR still remove more of it than the ancestral sampler; with
    ``CURVE`` 1.2, the two agree within 0.1 dB per octave (``results/study_c``).

    Args:
        schedule: The noise schedule.
        t: Steps of noise, 0..T.
        num_steps: Maximum number of indices, without repeats; there are fewer if t is smaller or neighbors coincide.
            They are those nearest to log-SNR a + (b - a) u**CURVE, from a at index t - 1 to b at index 0, for u uniform
            from 0 to 1. ``None`` visits every index.
    """
    if num_steps is None or t <= num_steps:
        return list(range(t - 1, -1, -1))
    if num_steps == 1:
        return [t - 1]
    log_snr = schedule.log_snr[:t]
    share = torch.linspace(0, 1, num_steps, dtype=torch.float64) ** CURVE
    wanted = torch.lerp(log_snr[-1], log_snr[0], share)
    nearest = (wanted[:, None] - log_snr[None, :]).abs().argmin(dim=1).tolist()
    return sorted(set(nearest), reverse=True)


def ancestral(schedule: Schedule, indices: list[int]) -> Coefficients:
    """DDPM's posterior step with the smaller variance (Ho et al. 2020, Eqs. 6-7; Yang et al. Eqs. 3-4), on any grid."""
    rows: Coefficients = []
    for alpha_bar, target in _level_pairs(schedule, indices):
        if target == 1:
            rows.append((0.0, 1.0, 0.0, 0.0))
            continue
        keep = alpha_bar / target
        rows.append(
            (
                math.sqrt(keep) * (1 - target) / (1 - alpha_bar),
                math.sqrt(target) * (1 - keep) / (1 - alpha_bar),
                0.0,
                math.sqrt((1 - keep) * (1 - target) / (1 - alpha_bar)),
            )
        )
    return rows


def ddim(schedule: Schedule, indices: list[int], eta: float = 0.0) -> Coefficients:
    """DDIM (Song et al. 2021, Eqs. 12 and 16); eta = 1 equals the ancestral step, eta = 0 adds no noise."""
    rows: Coefficients = []
    for alpha_bar, target in _level_pairs(schedule, indices):
        if target == 1:
            rows.append((0.0, 1.0, 0.0, 0.0))
            continue
        noise = eta * math.sqrt((1 - target) / (1 - alpha_bar) * (1 - alpha_bar / target))
        direction = math.sqrt(max(1 - target - noise**2, 0.0)) / math.sqrt(1 - alpha_bar)
        rows.append((direction, math.sqrt(target) - direction * math.sqrt(alpha_bar), 0.0, noise))
    return rows


def dpm_solver(schedule: Schedule, indices: list[int], stochastic: bool) -> Coefficients:
    """DPM-Solver++(2M) (Lu et al. 2022, Algorithm 2) and its stochastic form SDE-DPM-Solver++(2M) (their Eq. 19)."""
    rows: Coefficients = []
    previous_h = None
    for alpha_bar, target in _level_pairs(schedule, indices):
        if target == 1:
            rows.append((0.0, 1.0, 0.0, 0.0))
            continue
        h = (math.log(target / (1 - target)) - math.log(alpha_bar / (1 - alpha_bar))) / 2
        shrink = math.sqrt((1 - target) / (1 - alpha_bar))
        if stochastic:
            keep, gain = shrink * math.exp(-h), math.sqrt(target) * -math.expm1(-2 * h)
            noise = math.sqrt((1 - target) * -math.expm1(-2 * h))
        else:
            keep, gain, noise = shrink, math.sqrt(target) * -math.expm1(-h), 0.0
        extrapolation = 0.0 if previous_h is None else h / (2 * previous_h)
        rows.append((keep, gain * (1 + extrapolation), -gain * extrapolation, noise))
        previous_h = h
    return rows


def make_plan(
    schedule: Schedule, t: int, sampler: str = "sde-dpmsolver++", num_steps: int | None = 12, eta: float = 0.0
) -> Plan:
    """Plan denoising from step ``t``.

    Args:
        schedule: The noise schedule.
        t: Steps of noise, 0..T; 0 gives an empty plan.
        sampler: ``sde-dpmsolver++``, ``ancestral``, or one of the ODE samplers ``dpmsolver++`` and ``ddim``, which at
            equal t come only about half as close to the real degradation.
        num_steps: Maximum number of evaluations; ``None`` visits every step.
        eta: Noise of ``ddim``, 0..1.

    Raises:
        UserError: If the sampler is unknown, or ``t`` is outside the schedule.
    """
    if not 0 <= t <= schedule.num_train_timesteps:
        raise UserError(f"t: got {t}; expected 0 to {schedule.num_train_timesteps}, the length of the schedule")
    indices = index_grid(schedule, t, num_steps)
    if sampler == "ancestral":
        return Plan(indices, ancestral(schedule, indices))
    if sampler == "ddim":
        return Plan(indices, ddim(schedule, indices, eta))
    if sampler in ("sde-dpmsolver++", "dpmsolver++"):
        return Plan(indices, dpm_solver(schedule, indices, stochastic=sampler == "sde-dpmsolver++"))
    raise UserError(f"sampler: got {sampler!r}; expected one of {', '.join(SAMPLERS)}")


def walk_back(
    predict: Callable[[Tensor, Tensor], Tensor], x: Tensor, plans: list[Plan], generators: list[torch.Generator]
) -> Tensor:
    """Denoise a batch of noised images in lockstep; on CUDA, the host never waits.

    Args:
        predict: Maps x_t (N, C, H, W) and table indices (N,) to the clean prediction in [-1, 1], as ``Denoiser`` does.
        x: Noised images (N, C, H, W), float32; image n is at the level of ``plans[n].indices[0]``.
        plans: One plan per image; an empty plan returns its image unchanged.
        generators: One generator per image, on the device of ``x``, for the noise of the steps.

    Returns:
        The images at the end of their plans, (N, C, H, W), float32.
    """
    lengths = [len(plan.indices) for plan in plans]
    columns = max(lengths, default=0)
    indices, coefficients = _tables(plans, columns)
    indices, coefficients = to_device(indices, x.device), to_device(coefficients, x.device)
    previous = torch.zeros_like(x)
    for column in range(columns):
        clean = predict(x, indices[column])
        a_x, a_m0, a_m1, a_z = coefficients[column]
        noise = x.new_zeros(x.shape)
        for n, plan in enumerate(plans):
            step = column - (columns - lengths[n])
            if step >= 0 and plan.coefficients[step][3] > 0:
                noise[n].normal_(generator=generators[n])
        x = a_x * x + a_m0 * clean + a_m1 * previous + a_z * noise
        previous = clean
    return x


def _level_pairs(schedule: Schedule, indices: list[int]) -> list[tuple[float, float]]:
    """Return, per visited index, its alpha_bar and that at the end of the step (1, clean, after the last)."""
    levels = [float(schedule.alpha_bars[i]) for i in indices]
    return list(zip(levels, [*levels, 1.0][1:], strict=True))


def _tables(plans: list[Plan], columns: int) -> tuple[Tensor, Tensor]:
    """Convert plans to tables, padded at the front with steps that do not change the image.

    Returns:
        Indices (columns, N), int64, and coefficients (columns, 4, N, 1, 1, 1), float32.
    """
    indices = torch.zeros(columns, len(plans), dtype=torch.int64)
    coefficients = torch.zeros(columns, 4, len(plans), dtype=torch.float64)
    coefficients[:, 0] = 1.0
    for n, plan in enumerate(plans):
        if plan.indices:
            indices[-len(plan.indices) :, n] = torch.tensor(plan.indices)
            coefficients[-len(plan.indices) :, :, n] = torch.tensor(plan.coefficients, dtype=torch.float64)
    return indices, coefficients.float().view(columns, 4, len(plans), 1, 1, 1)
