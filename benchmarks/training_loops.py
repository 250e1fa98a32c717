"""The training loops that `benchmarks/train_step.py` compares.

Ours is Lightning's loop with the DDPM's ``training_step``, optimizer, gradient clipping, and EMA callback, as in the
shipped configs. The peers' loops were written from their public sources: the loop of denoising-diffusion-pytorch's
``Trainer`` around its ``GaussianDiffusion``, and that of diffusers' example for unconditional training. Both run
without accelerate, which would only add to their time. No loop loads images, shows a progress bar, or writes a log.
"""

import logging
import time
import warnings
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DModel
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from machine import DTYPES
from torch import Tensor, nn
from torch.utils.data import DataLoader
from training_networks import NETWORKS, equal_example, equal_unet, size_of
from walks import Driven

from ddpm_pairs.callbacks import EMA
from ddpm_pairs.diffusion import DDPM, UNet

TITLES = {
    "ours": ("ours", "ours"),
    "peer": ("denoising-diffusion-pytorch", "ours"),
    "peer_own": ("denoising-diffusion-pytorch", "its Unet"),
    "diffusers": ("diffusers' example", "ours"),
    "diffusers_own": ("diffusers' example", "its UNet2DModel"),
}
"""Titles of loop and network, by name."""

CLIP = 1.0
WARM_UP = 1


class OurLoop:
    """``lightning fit`` of a ``DDPM``.

    Args:
        net: The network.
        device: Device on which it runs.
        precision: ``fp32`` or ``bf16``.
    """

    def __init__(self, net: UNet, device: torch.device, precision: str) -> None:
        warnings.filterwarnings("ignore", module="lightning")
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        self.module = DDPM(net)
        self.options = {
            "accelerator": "cuda" if device.type == "cuda" else "cpu",
            "precision": {"fp32": "32-true", "bf16": "bf16-mixed"}[precision],
        }

    def seconds(self, batches: list[Tensor]) -> float:
        """Return the seconds per step, averaged over all batches but the first."""
        clock = _Clock()
        trainer = L.Trainer(
            devices=1,
            max_steps=len(batches),
            gradient_clip_val=CLIP,
            callbacks=[EMA(), clock],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            **self.options,
        )
        trainer.fit(self.module, DataLoader([{"lq": batch} for batch in batches], batch_size=None))
        return clock.seconds / (len(batches) - WARM_UP)


class _Clock(L.Callback):
    """Measure the time from the start of the first step after the warm-up to the end of the last step."""

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: DDPM, batch: Any, batch_idx: int) -> None:
        if batch_idx == WARM_UP:
            self.begin = _now(pl_module.device)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: DDPM, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == trainer.max_steps - 1:
            self.seconds = _now(pl_module.device) - self.begin


class PeerLoop:
    """A loop in plain torch.

    Args:
        step: Takes one step on a batch (N, 3, H, W) in [0, 1] on the device.
        device: Device on which it runs.
    """

    def __init__(self, step: Callable[[Tensor], None], device: torch.device) -> None:
        self.step, self.device = step, device

    def seconds(self, batches: list[Tensor]) -> float:
        """Return the seconds per step, averaged over all batches but the first."""
        for number, batch in enumerate(batches):
            if number == WARM_UP:
                begin = _now(self.device)
            self.step(batch.to(self.device))
        return (_now(self.device) - begin) / (len(batches) - WARM_UP)


def denoising_diffusion_loop(net: nn.Module, side: int, device: torch.device, precision: str) -> PeerLoop:
    """Build the loop of denoising-diffusion-pytorch: its ``GaussianDiffusion`` with a step of its ``Trainer``.

    Args:
        net: Its ``Unet``, or another network with the same interface.
        side: Side of the images in pixels.
        device: Device on which it runs.
        precision: ``fp32`` or ``bf16``.
    """
    import ema_pytorch
    from denoising_diffusion_pytorch import GaussianDiffusion

    diffusion = GaussianDiffusion(net, image_size=side, objective="pred_noise", beta_schedule="cosine").to(device)
    optimizer = torch.optim.Adam(diffusion.parameters(), lr=8e-5, betas=(0.9, 0.99))
    average = ema_pytorch.EMA(diffusion, beta=0.995, update_every=10).to(device)

    def step(batch: Tensor) -> None:
        diffusion.train()
        with _autocast(device, precision):
            loss = diffusion(batch)
        loss.item()  # its progress bar shows it
        loss.backward()
        nn.utils.clip_grad_norm_(diffusion.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        average.update()

    return PeerLoop(step, device)


def diffusers_loop(net: UNet2DModel, device: torch.device, precision: str) -> PeerLoop:
    """Build the loop of diffusers' example for unconditional training, with its EMA.

    Args:
        net: The network.
        device: Device on which it runs.
        precision: ``fp32`` or ``bf16``.
    """
    net.to(device).train()
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6)
    rate = get_scheduler("cosine", optimizer, num_warmup_steps=500, num_training_steps=100_000)
    average = EMAModel(net.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)

    def step(batch: Tensor) -> None:
        clean = batch * 2 - 1
        noise = torch.randn_like(clean)
        index = torch.randint(0, 1000, (len(clean),), device=device)
        noisy = scheduler.add_noise(clean, noise, index)
        with _autocast(device, precision):
            output = net(noisy, index)
        loss = F.mse_loss(getattr(output, "sample", output).float(), noise)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), CLIP)
        optimizer.step()
        rate.step()
        average.step(net.parameters())
        optimizer.zero_grad()
        loss.item()  # its log records it

    return PeerLoop(step, device)


def build_loop(name: str, network: str, side: int, device: torch.device, precision: str) -> tuple[Any, nn.Module]:
    """Build a loop and its network.

    Args:
        name: A key of ``TITLES``.
        network: A key of ``NETWORKS``.
        side: Side of the images in pixels.
        device: Device on which it runs.
        precision: ``fp32`` or ``bf16``.
    """
    net = UNet(**NETWORKS[network])
    size = size_of(net)
    match name:
        case "ours":
            return OurLoop(net, device, precision), net
        case "peer":
            return denoising_diffusion_loop(Driven(net), side, device, precision), net
        case "peer_own":
            net = equal_unet(size)
            return denoising_diffusion_loop(net, side, device, precision), net
        case "diffusers":
            return diffusers_loop(net, device, precision), net
    net = equal_example(size)
    return diffusers_loop(net, device, precision), net


def _autocast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, DTYPES["bf16"], enabled=precision == "bf16")


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
