"""Handcrafted degradation models: what makes the initial LQ of a pair from HQ.

Every model draws the parameters of one picture from a generator (`draw`), so that they can be written down and
replayed, and applies them to a batch as a pure function (`apply`). `ddpm_pairs.degradations.base` holds the protocol.
"""

from ddpm_pairs.degradations.base import Degradation
from ddpm_pairs.degradations.handcrafted.band_gain import BandGain
from ddpm_pairs.degradations.handcrafted.bicubic import Bicubic
from ddpm_pairs.degradations.handcrafted.bsrgan import BSRGAN
from ddpm_pairs.degradations.handcrafted.chain import Chain
from ddpm_pairs.degradations.handcrafted.classical import Classical
from ddpm_pairs.degradations.handcrafted.operations import Blur, Jpeg, Noise, Resize
from ddpm_pairs.degradations.handcrafted.preparation import HQPreparation
from ddpm_pairs.degradations.handcrafted.real_esrgan import RealESRGAN
from ddpm_pairs.errors import UserError

__all__ = [
    "BSRGAN",
    "BandGain",
    "Bicubic",
    "Blur",
    "Chain",
    "Classical",
    "Degradation",
    "HQPreparation",
    "Jpeg",
    "Noise",
    "RealESRGAN",
    "Resize",
    "build_degradation",
]


def build_degradation(name: str, scale: int, preset: str = "natural") -> Degradation:
    """Make a degradation model from its short name.

    Args:
        name: `bicubic`, `classical`, `bsrgan` or `real_esrgan`.
        scale: HQ side over LQ side: 1, 2 or 4.
        preset: `natural` (LQ at HQ / scale) or `faces` (scale 1: degraded smaller, LQ back on the HQ grid).

    Returns:
        The model.

    Raises:
        UserError: for an unknown name, scale or preset.
    """
    models = {model.name: model for model in (Bicubic, Classical, BSRGAN, RealESRGAN)}
    if name not in models:
        known = ", ".join(models)
        raise UserError(f"degradation {name!r} is unknown: give one of {known}, or a class path with its arguments")
    return models[name](scale=scale, preset=preset)
