"""Noise schedules, which define the signal level at each diffusion step, and the forward process.

The functions work on ``(N, C, H, W)`` tensors in [-1, 1] with one table index per image, ``index`` of shape (N,),
int64; ``alpha_bars`` is the table of the schedule, shape (T,).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ddpm_pairs.errors import UserError
from ddpm_pairs.tensors import to_device

SCHEDULES = ("linear", "cosine", "sigmoid")
"""Schedules for training; ``BETA_SCHEDULES`` occur in DDPMs of other programs."""

BETA_SCHEDULES = ("scaled_linear", "sigmoid_beta", "trained")
MOST_STEPS = 100_000
LOWEST_SIGNAL = 1e-36
"""Least cumulative signal level, so that its root is a normal float32."""


@dataclass(frozen=True)
class Schedule:
    r"""The cumulative signal levels :math:`\bar\alpha_i`, i = 0..T-1, of a variance-preserving diffusion.

    Tables are float64 on the CPU. Table index i belongs to t = i + 1: ``t`` counts steps, and t = 0 is the clean
    image.

    Args:
        name: ``linear`` (Ho et al. 2020: betas from 1e-4 to 0.02 at T = 1000, scaled by 1000 / T otherwise),
            ``cosine`` (Nichol and Dhariwal 2021, Eq. 17, s = 0.008) or ``sigmoid`` (Jabri et al. 2022, start -3, end 3,
            tau 1). The last two limit beta to 0.999. DDPMs of other programs may also have ``scaled_linear`` (roots of
            the betas are linear), ``sigmoid_beta`` (the betas are a sigmoid from -6 to 6, diffusers' ``sigmoid``) or
            ``trained`` (any betas).
        num_train_timesteps: T, the number of steps, 2 to 100,000.
        beta_start: First beta of ``scaled_linear`` and ``sigmoid_beta``, and of a ``linear`` other than that of Ho.
        beta_end: Last beta of the same.
        trained_betas: The T betas of ``trained``.

    Raises:
        UserError: If the name is unknown, T is out of range, the betas do not belong to the name, or the levels do not
            decrease from below 1 to above 0.
    """

    name: str = "cosine"
    num_train_timesteps: int = 1000
    beta_start: float | None = None
    beta_end: float | None = None
    trained_betas: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.name not in (*SCHEDULES, *BETA_SCHEDULES):
            raise UserError(f"schedule: got {self.name!r}; expected one of {', '.join(SCHEDULES)}")
        if not isinstance(self.num_train_timesteps, int) or not 2 <= self.num_train_timesteps <= MOST_STEPS:
            raise UserError(
                f"num_train_timesteps: got {self.num_train_timesteps!r}; expected 2 or more, up to {MOST_STEPS}"
            )
        given = {name for name in ("beta_start", "beta_end", "trained_betas") if getattr(self, name) is not None}
        limits = {"beta_start", "beta_end"}
        allowed = {"linear": (set(), limits), "trained": ({"trained_betas"},), "cosine": (set(),), "sigmoid": (set(),)}
        if given not in allowed.get(self.name, (limits,)):
            raise UserError(f"schedule {self.name} does not take {' and '.join(sorted(given)) or 'no betas'}")
        if self.trained_betas is not None and len(self.trained_betas) != self.num_train_timesteps:
            raise UserError(
                f"trained_betas: got {len(self.trained_betas)}; expected one per step, {self.num_train_timesteps}"
            )
        self._check_levels()

    def _check_levels(self) -> None:
        if not (self.betas.isfinite().all() and self.betas.min() > 0 and self.betas.max() < 1):
            low, high = self.betas.min().item(), self.betas.max().item()
            raise UserError(
                f"schedule {self.name} in {self.num_train_timesteps} steps has betas from {low:.3g} to {high:.3g}; "
                "expected more than 0 and less than 1"
            )
        if self.alpha_bars[-1] < LOWEST_SIGNAL:
            raise UserError(
                f"schedule {self.name} in {self.num_train_timesteps} steps leaves a signal of "
                f"{self.alpha_bars[-1].item():.1e} at its end; expected {LOWEST_SIGNAL} or more; use fewer steps or "
                "smaller betas"
            )

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> "Schedule":
        """Build a schedule from what ``spec`` returned, whatever else the mapping contains."""
        betas = spec.get("trained_betas")
        return cls(
            spec["schedule"],
            spec["num_train_timesteps"],
            spec.get("beta_start"),
            spec.get("beta_end"),
            None if betas is None else tuple(betas),
        )

    def spec(self) -> dict[str, Any]:
        """Describe the schedule as plain values, for checkpoints and exports."""
        betas = {"beta_start": self.beta_start, "beta_end": self.beta_end}
        if self.trained_betas is not None:
            betas["trained_betas"] = list(self.trained_betas)
        given = {name: value for name, value in betas.items() if value is not None}
        return {"schedule": self.name, "num_train_timesteps": self.num_train_timesteps, **given}

    @cached_property
    def betas(self) -> Tensor:
        r""":math:`\beta_i`, shape (T,), float64."""
        steps = self.num_train_timesteps
        if self.trained_betas is not None:
            return torch.tensor(self.trained_betas, dtype=torch.float64)
        if self.name == "linear" and self.beta_start is None:
            return torch.linspace(1e-4, 0.02, steps, dtype=torch.float64) * (1000 / steps)
        if self.name == "linear":
            return torch.linspace(self.beta_start, self.beta_end, steps, dtype=torch.float64)
        if self.name == "scaled_linear":
            return torch.linspace(self.beta_start**0.5, self.beta_end**0.5, steps, dtype=torch.float64) ** 2
        if self.name == "sigmoid_beta":
            rise = torch.linspace(-6, 6, steps, dtype=torch.float64).sigmoid()
            return rise * (self.beta_end - self.beta_start) + self.beta_start
        u = torch.arange(steps + 1, dtype=torch.float64) / steps
        if self.name == "cosine":
            signal = torch.cos(math.pi / 2 * (u + 0.008) / 1.008) ** 2
        else:
            start, end = -3.0, 3.0
            signal = torch.sigmoid(torch.tensor(end, dtype=torch.float64)) - torch.sigmoid(u * (end - start) + start)
        return (1 - signal[1:] / signal[:-1]).clamp(max=0.999)

    @cached_property
    def alpha_bars(self) -> Tensor:
        r""":math:`\bar\alpha_i = \prod_{j \le i} (1 - \beta_j)`, shape (T,), float64."""
        return torch.cumprod(1 - self.betas, dim=0)

    @cached_property
    def log_snr(self) -> Tensor:
        r"""Log signal-to-noise ratio, :math:`\ln(\bar\alpha_i / (1 - \bar\alpha_i))`, decreasing, (T,), float64."""
        return torch.log(self.alpha_bars) - torch.log1p(-self.alpha_bars)

    def alpha_bars_on(self, device: torch.device) -> Tensor:
        """Return ``alpha_bars`` on a device; it is copied there once, so that no step waits for a copy."""
        if device not in self._copies:
            self._copies[device] = to_device(self.alpha_bars, device)
        return self._copies[device]

    @cached_property
    def _copies(self) -> dict[torch.device, Tensor]:
        return {}

    def log_snr_at(self, t: int) -> float:
        """Return the log-SNR after ``t`` steps of noise; infinite for t = 0."""
        return math.inf if t == 0 else float(self.log_snr[t - 1])


def _levels(alpha_bars: Tensor, index: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return signal and noise amplitudes per image, (N, 1, 1, 1), in the dtype and on the device of ``like``."""
    alpha_bar = alpha_bars.to(like.device)[index.to(like.device)].view(-1, 1, 1, 1)
    return alpha_bar.sqrt().to(like.dtype), (1 - alpha_bar).sqrt().to(like.dtype)


def add_noise(x_0: Tensor, noise: Tensor, index: Tensor, alpha_bars: Tensor) -> Tensor:
    r"""Forward process, :math:`x_t = \sqrt{\bar\alpha} x_0 + \sqrt{1 - \bar\alpha} \epsilon` (Yang et al. Eq. 1)."""
    signal, sigma = _levels(alpha_bars, index, x_0)
    return signal * x_0 + sigma * noise


def training_target(x_0: Tensor, noise: Tensor, index: Tensor, alpha_bars: Tensor, prediction_type: str) -> Tensor:
    r"""Compute the target of the network: the noise, v, or the clean image (``sample``).

    :math:`v = \sqrt{\bar\alpha}\epsilon - \sqrt{1-\bar\alpha}x_0` (Salimans and Ho 2022, section 4).
    """
    if prediction_type != "v_prediction":
        return noise if prediction_type == "epsilon" else x_0
    signal, sigma = _levels(alpha_bars, index, x_0)
    return signal * noise - sigma * x_0


def noise_like(generators: list[torch.Generator], shape: tuple[int, ...]) -> Tensor:
    """Draw standard normal noise, one image per generator: ``(N, *shape)`` on the device of the generators."""
    return torch.stack([torch.randn(shape, generator=g, device=g.device) for g in generators])
