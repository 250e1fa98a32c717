"""Restorers: networks, losses, and the modules that train them on pairs."""

from ddpm_pairs.restoration.adaptation import (
    ConditionalUNet,
    FeatureAlignment,
    FeatureDiscriminator,
    NoiseAdaptation,
    SelfConsistency,
)
from ddpm_pairs.restoration.adversarial import Adversarial
from ddpm_pairs.restoration.domain_weighted import DomainWeighted
from ddpm_pairs.restoration.gan_prior import Prior
from ddpm_pairs.restoration.networks.gpen import GPEN, StyleDecoder, StyleDiscriminator
from ddpm_pairs.restoration.networks.rrdb import RRDBNet
from ddpm_pairs.restoration.networks.spandrel_net import SpandrelNet
from ddpm_pairs.restoration.networks.unet import RestorationUNet
from ddpm_pairs.restoration.networks.unet_discriminator import UNetDiscriminator
from ddpm_pairs.restoration.regression import Regression
from ddpm_pairs.restoration.restorer import Restorer
from ddpm_pairs.restoration.weights import load_restorer
from ddpm_pairs.training.losses.perceptual import Perceptual

__all__ = [
    "GPEN",
    "Adversarial",
    "ConditionalUNet",
    "DomainWeighted",
    "FeatureAlignment",
    "FeatureDiscriminator",
    "NoiseAdaptation",
    "Perceptual",
    "Prior",
    "RRDBNet",
    "Regression",
    "RestorationUNet",
    "Restorer",
    "SelfConsistency",
    "SpandrelNet",
    "StyleDecoder",
    "StyleDiscriminator",
    "UNetDiscriminator",
    "load_restorer",
]
