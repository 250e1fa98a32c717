"""Noise schedules, which define the signal level at each diffusion step, and the forward process.

The functions work on ``(N, C, H, W)`` tensors in [-1, 1] with one table index per image, ``index`` of shape (N,),
int64; ``alpha_bars`` is the table of the schedule, shape (T,).
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ddpm_pairs.errors import UserError
from ddpm_pairs.tensors import to_device

SCHEDULES = ("linear", "cosine", "sigmoid")


@dataclass(frozen=True)
class Schedule:
    r"""The cumulative signal levels :math:`\bar\alpha_i`, i = 0..T-1, of a variance-preserving diffusion.

    Tables are float64 on the CPU. Table index i belongs to t = i + 1: ``t`` counts steps, and t = 0 is the clean
    image.

    Args:
        name: ``linear`` (Ho et al. 2020: betas from 1e-4 to 0.02 at T = 1000, scaled by 1000 / T otherwise),
            ``cosine`` (Nichol and Dhariwal 2021, Eq. 17, s = 0.008) or ``sigmoid`` (Jabri et al. 2022, start -3, end 3,
            tau 1). The last two limit beta to 0.999.
        num_train_timesteps: T, the number of steps.

    Raises:
        UserError: If the name is unknown, or T is less than 2.
    """

    name: str = "cosine"
    num_train_timesteps: int = 1000

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.name not in SCHEDULES:
            raise UserError(f"schedule: got {self.name!r}; expected one of {', '.join(SCHEDULES)}")
        if self.num_train_timesteps < 2:
            raise UserError(f"num_train_timesteps: got {self.num_train_timesteps}; expected 2 or more")

    @cached_property
    def betas(self) -> Tensor:
        r""":math:`\beta_i`, shape (T,), float64."""
        steps = self.num_train_timesteps
        if self.name == "linear":
            return torch.linspace(1e-4, 0.02, steps, dtype=torch.float64) * (1000 / steps)
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
    r"""Compute the target of the network: the noise, or v.

    :math:`v = \sqrt{\bar\alpha}\epsilon - \sqrt{1-\bar\alpha}x_0` (Salimans and Ho 2022, section 4).
    """
    if prediction_type == "epsilon":
        return noise
    signal, sigma = _levels(alpha_bars, index, x_0)
    return signal * noise - sigma * x_0


def noise_like(generators: list[torch.Generator], shape: tuple[int, ...]) -> Tensor:
    """Draw standard normal noise, one image per generator: ``(N, *shape)`` on the device of the generators."""
    return torch.stack([torch.randn(shape, generator=g, device=g.device) for g in generators])
