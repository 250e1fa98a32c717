"""Frozen models of real LQ, and how far restored images, taken back to LQ by them, are from the original LQ."""

from abc import ABC, abstractmethod
from pathlib import Path

import torch
from torch import Tensor

from ddpm_pairs.degradations.learned.files import KIND as DEGRADATION
from ddpm_pairs.degradations.learned.files import load_synthesizer
from ddpm_pairs.degradations.learned.synthesizer import Synthesizer
from ddpm_pairs.diffusion.denoiser import KIND as DDPM
from ddpm_pairs.diffusion.denoiser import Denoiser
from ddpm_pairs.diffusion.loading import load_denoiser, read_kind
from ddpm_pairs.diffusion.schedule import add_noise
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.pixels import resize_bicubic
from ddpm_pairs.shipped import weights_file
from ddpm_pairs.training.steps import normal


class Consistency(ABC):
    """A frozen model of real LQ; it is no ``nn.Module``, so that no checkpoint, average, or optimizer contains it."""

    @abstractmethod
    def check(self, scale: int, crop_size: int | None) -> None:
        """Check that the model fits the restorer's scale and the side of the HQ crops; raises ``UserError``."""

    @abstractmethod
    def to(self, device: torch.device) -> None:
        """Move the weights to a device."""

    @abstractmethod
    def error(self, restored: Tensor, real: Tensor, rows: list[torch.Generator]) -> Tensor:
        """Compute the mean distance between real LQ and restored images that are taken back to LQ, with a gradient.

        Args:
            restored: Restored real LQ, (N, 3, H, W), float32, about [0, 1].
            real: The real LQ, (N, 3, H / scale, W / scale), float32 in [0, 1].
            rows: N generators on the device of the images, for what is random.

        Returns:
            A scalar, in units of [0, 1].
        """


class DegradedAgain(Consistency):
    """Degrade restored images again with a learned degradation; the error is the mean absolute difference.

    Args:
        net: The degradation's network or pool; frozen here.
    """

    def __init__(self, net: Synthesizer) -> None:
        self.net = net.eval().requires_grad_(False)

    def check(self, scale: int, crop_size: int | None) -> None:
        """Check the scale, and that crops are multiples of what the degradation needs."""
        if self.net.scale != scale:
            raise UserError(
                f"--model.degraded_by: got a degradation of scale {self.net.scale}; expected {scale}, the restorer's"
            )
        _check_crops(crop_size, self.net.multiple)

    def to(self, device: torch.device) -> None:
        """Move the weights to a device."""
        self.net.to(device)

    def error(self, restored: Tensor, real: Tensor, rows: list[torch.Generator]) -> Tensor:
        """Degrade each image with parameters of its own; see ``Consistency.error``."""
        drawn = [self.net.draw(torch.Generator().manual_seed(row.initial_seed())) for row in rows]
        images = [self.net.synthesize(*one) for one in zip(restored.split(1), drawn, strict=True)]
        return (torch.cat(images) - real).abs().mean()


class NoiseSpace(Consistency):
    """Compare reduced restored images with real LQ in the noise space of a DDPM of real LQ.

    Args:
        denoiser: The DDPM; frozen here.
        t_range: Smallest and largest t, between which t is drawn uniformly.

    Raises:
        UserError: If the DDPM was not trained on these t.
    """

    def __init__(self, denoiser: Denoiser, t_range: tuple[int, int]) -> None:
        if t_range[1] > denoiser.t_max:
            raise UserError(
                f"--model.t_range: got {list(t_range)}; expected {denoiser.t_max} or less, the t_max of the DDPM"
            )
        self.denoiser, self.t_range = denoiser.eval().requires_grad_(False), t_range

    def check(self, scale: int, crop_size: int | None) -> None:
        """Check that LQ crops are multiples of what the DDPM needs."""
        _check_crops(crop_size, scale * self.denoiser.multiple)

    def to(self, device: torch.device) -> None:
        """Move the weights to a device."""
        self.denoiser.to(device)

    def error(self, restored: Tensor, real: Tensor, rows: list[torch.Generator]) -> Tensor:
        """Reduce restored images bicubically, noise them, and compare the noise; see ``Consistency.error``."""
        first, last = self.t_range
        numbers = torch.stack([torch.rand((), generator=row, device=row.device) for row in rows])
        index = first - 1 + (numbers * (last - first + 1)).long()
        noise = normal(rows, tuple(real.shape[1:])).to(real.dtype)
        if restored.shape != real.shape:
            restored = resize_bicubic(restored, tuple(real.shape[-2:]))
        alpha_bars = self.denoiser.schedule.alpha_bars_on(real.device)
        x_t = add_noise(restored * 2 - 1, noise, index, alpha_bars)
        alpha_bar = alpha_bars[index].view(-1, 1, 1, 1).float()
        predicted = predicted_noise(x_t, self.denoiser.net(x_t, index), alpha_bar, self.denoiser.prediction_type)
        return noise_distance(predicted, x_t, real * 2 - 1, alpha_bar) / 2


def load_consistency(name: str, t_range: tuple[int, int]) -> Consistency:
    """Load a model of real LQ.

    Args:
        name: The checkpoint or export of a DDPM or of a learned degradation, a diffusers folder, or the name of shipped
            weights.
        t_range: Range of t for a DDPM.

    Raises:
        UserError: If the file is missing, unreadable, or contains something else.
    """
    path = Path(weights_file(name))
    kind = DDPM if path.is_dir() else read_kind(path)
    if kind == DDPM:
        return NoiseSpace(load_denoiser(path), t_range)
    if kind == DEGRADATION:
        return DegradedAgain(load_synthesizer(path)[0])
    contains = "weights without a description" if kind is None else f"a {kind}"
    raise UserError(
        f"--model.degraded_by: {name} contains {contains}; expected a DDPM or a learned degradation, a .ckpt of its "
        "fit or a .safetensors file"
    )


def predicted_noise(x_t: Tensor, output: Tensor, alpha_bar: Tensor, prediction_type: str) -> Tensor:
    """Return the noise that an output of the network implies.

    Args:
        x_t: Noised images (N, 3, H, W).
        output: The network's output of the same shape.
        alpha_bar: Signal levels (N, 1, 1, 1).
        prediction_type: What the output is, see ``Denoiser``.
    """
    signal, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    if prediction_type == "epsilon":
        return output
    return sigma * x_t + signal * output if prediction_type == "v_prediction" else (x_t - signal * output) / sigma


def noise_distance(predicted: Tensor, x_t: Tensor, real: Tensor, alpha_bar: Tensor) -> Tensor:
    """Return the mean distance of predicted noise from the noise that would lead back to the real image.

    That noise is (x_t - sqrt(alpha_bar) real) / sqrt(1 - alpha_bar). Differences are multiplied by sqrt((1 - alpha_bar)
    / alpha_bar), which makes them those between the real image and the clean image that the network sees in x_t.
    Without the weight, small t would outweigh all others, without a limit for t near 0.

    Args:
        predicted: Predicted noise (N, 3, H, W).
        x_t: The noised images.
        real: The real images, in the range of ``x_t``.
        alpha_bar: Signal levels (N, 1, 1, 1).
    """
    wanted = (x_t - alpha_bar.sqrt() * real) / (1 - alpha_bar).sqrt()
    return (((1 - alpha_bar) / alpha_bar).sqrt() * (predicted - wanted).abs()).mean()


def _check_crops(crop_size: int | None, multiple: int) -> None:
    if crop_size is not None and crop_size % multiple:
        raise UserError(f"--data.crop_size: got {crop_size}; expected a multiple of {multiple} for --model.degraded_by")
