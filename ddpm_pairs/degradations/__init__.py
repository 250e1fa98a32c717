"""Handcrafted degradation models: what makes the initial LQ of a pair from HQ.

Every model draws the parameters of one picture from a generator (`draw`), so that they can be written down and
replayed, and applies them to a batch as a pure function (`apply`). `ddpm_pairs.degradations.base` holds the protocol.
"""

from ddpm_pairs.degradations.base import Degradation
from ddpm_pairs.degradations.bicubic import Bicubic
from ddpm_pairs.degradations.real_esrgan import RealESRGAN

__all__ = ["Bicubic", "Degradation", "RealESRGAN", "build_degradation"]


def build_degradation(name: str, scale: int) -> Degradation:
    """Make a degradation model from its short name.

    Args:
        name: `bicubic` or `real_esrgan`.
        scale: HQ side over LQ side: 1, 2 or 4.

    Returns:
        The model.

    Raises:
        ValueError: for an unknown name or scale.
    """
    models = {model.name: model for model in (Bicubic, RealESRGAN)}
    if name not in models:
        known = ", ".join(sorted(models))
        raise ValueError(f"degradation {name!r} is unknown: give one of {known}, or a class path with its arguments")
    return models[name](scale=scale)
