"""Degradations, which turn HQ into LQ.

Each draws the parameters of one image from a generator (``draw``), so that they can be recorded and replayed, and
applies them to a batch as a pure function (``apply``). ``ddpm_pairs.degradations.base`` defines the protocol. The DDPM
walk is a degradation, too; it contains its start. All are called in the same way: ``lq = degradation(hq, seed=0)``.
"""

from ddpm_pairs.degradations.base import Degradation, Operation, degrade
from ddpm_pairs.degradations.by_name import by_name
from ddpm_pairs.degradations.handcrafted.band_gain import BandGain
from ddpm_pairs.degradations.handcrafted.bicubic import Bicubic
from ddpm_pairs.degradations.handcrafted.bsrgan import BSRGAN
from ddpm_pairs.degradations.handcrafted.chain import Chain
from ddpm_pairs.degradations.handcrafted.classical import Classical, ClassicalFaces
from ddpm_pairs.degradations.handcrafted.gaussian_noise import GaussianNoise
from ddpm_pairs.degradations.handcrafted.on_hq_grid import OnHQGrid
from ddpm_pairs.degradations.handcrafted.operations import Blur, Jpeg, Noise, Resize
from ddpm_pairs.degradations.handcrafted.preparation import HQPreparation
from ddpm_pairs.degradations.handcrafted.real_esrgan import RealESRGAN
from ddpm_pairs.degradations.handcrafted.redegnet_chain import ReDegNetChain
from ddpm_pairs.degradations.learned.degradation import Learned
from ddpm_pairs.degradations.walk import Sampling, Walk

__all__ = [
    "BSRGAN",
    "BandGain",
    "Bicubic",
    "Blur",
    "Chain",
    "Classical",
    "ClassicalFaces",
    "Degradation",
    "GaussianNoise",
    "HQPreparation",
    "Jpeg",
    "Learned",
    "Noise",
    "OnHQGrid",
    "Operation",
    "ReDegNetChain",
    "RealESRGAN",
    "Resize",
    "Sampling",
    "Walk",
    "by_name",
    "degrade",
]
