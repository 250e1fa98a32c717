"""Restorers that adapt to real LQ images, of which nobody has HQ."""

from ddpm_pairs.restoration.adaptation.base import Adaptation
from ddpm_pairs.restoration.adaptation.denoiser import ConditionalUNet
from ddpm_pairs.restoration.adaptation.noise_adaptation import NoiseAdaptation

__all__ = ["Adaptation", "ConditionalUNet", "NoiseAdaptation"]
