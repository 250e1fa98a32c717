"""Restorers that adapt to real LQ images, of which nobody has HQ."""

from ddpm_pairs.restoration.adaptation.base import Adaptation
from ddpm_pairs.restoration.adaptation.denoiser import ConditionalUNet
from ddpm_pairs.restoration.adaptation.feature_alignment import FeatureAlignment, FeatureDiscriminator
from ddpm_pairs.restoration.adaptation.noise_adaptation import NoiseAdaptation
from ddpm_pairs.restoration.adaptation.self_consistency import SelfConsistency

__all__ = [
    "Adaptation",
    "ConditionalUNet",
    "FeatureAlignment",
    "FeatureDiscriminator",
    "NoiseAdaptation",
    "SelfConsistency",
]
