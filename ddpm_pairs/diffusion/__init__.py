"""Diffusion: schedule, denoiser, samplers, and training of the DDPM."""

from ddpm_pairs.diffusion.denoiser import Denoiser, UNet
from ddpm_pairs.diffusion.loading import load_denoiser
from ddpm_pairs.diffusion.module import DDPM
from ddpm_pairs.diffusion.schedule import Schedule

__all__ = ["DDPM", "Denoiser", "Schedule", "UNet", "load_denoiser"]
