"""The diffusion process: noise a picture to a step, and read the clean picture off the network's output.

Everything works on ``(N, C, H, W)`` tensors in [-1, 1] with one table index a picture, ``index`` of shape (N,), int64;
``alpha_bars`` is the schedule's table, shape (T,).
"""

import torch
from torch import Tensor

from ddpm_pairs.errors import UserError

PREDICTION_TYPES = ("epsilon", "v_prediction")


def _levels(alpha_bars: Tensor, index: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Signal and noise amplitudes of each picture, shaped (N, 1, 1, 1) in the dtype and on the device of ``like``."""
    alpha_bar = alpha_bars.to(like.device)[index.to(like.device)].view(-1, 1, 1, 1)
    return alpha_bar.sqrt().to(like.dtype), (1 - alpha_bar).sqrt().to(like.dtype)


def add_noise(x_0: Tensor, noise: Tensor, index: Tensor, alpha_bars: Tensor) -> Tensor:
    r"""Forward process, :math:`x_t = \sqrt{\bar\alpha} x_0 + \sqrt{1 - \bar\alpha} \epsilon` (Yang et al. Eq. 1)."""
    signal, sigma = _levels(alpha_bars, index, x_0)
    return signal * x_0 + sigma * noise


def training_target(x_0: Tensor, noise: Tensor, index: Tensor, alpha_bars: Tensor, prediction_type: str) -> Tensor:
    r"""What the network shall output: the noise, or v.

    :math:`v = \sqrt{\bar\alpha}\epsilon - \sqrt{1-\bar\alpha}x_0` (Salimans and Ho 2022, section 4).
    """
    if prediction_type == "epsilon":
        return noise
    signal, sigma = _levels(alpha_bars, index, x_0)
    return signal * noise - sigma * x_0


def predict_clean(x_t: Tensor, output: Tensor, index: Tensor, alpha_bars: Tensor, prediction_type: str) -> Tensor:
    """The clean picture that a network output implies, clamped to [-1, 1], same shape as ``x_t``, float32."""
    x_t, output = x_t.float(), output.float()
    signal, sigma = _levels(alpha_bars, index, x_t)
    x_0 = (x_t - sigma * output) / signal if prediction_type == "epsilon" else signal * x_t - sigma * output
    return x_0.clamp(-1, 1)


def check_prediction_type(prediction_type: str) -> None:
    """Raise ``ValueError`` unless ``prediction_type`` is ``epsilon`` or ``v_prediction``."""
    if prediction_type not in PREDICTION_TYPES:
        raise UserError(f"prediction_type {prediction_type!r} is unknown: expected {' or '.join(PREDICTION_TYPES)}")


def noise_like(generators: list[torch.Generator], shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise, one picture from each generator: ``(N, *shape)`` on the generators' device."""
    return torch.stack([torch.randn(shape, generator=g, device=g.device) for g in generators])
