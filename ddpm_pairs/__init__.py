"""ddpm_pairs: realistic HQ-LQ training pairs for image restoration, made with a DDPM of your own LQ images.

Importing the package imports nothing else, so that ``lightning --help`` answers at once; the public names below are
imported on first use.
"""

# ruff: noqa: F401 - for type checkers; lazy_loader makes __all__

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from ddpm_pairs.api import load_ddpm, make_pairs, restore, score
    from ddpm_pairs.degradations import BSRGAN, Bicubic, Chain, Classical, RealESRGAN, Walk
    from ddpm_pairs.trust import trust_classes

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "api": ["load_ddpm", "make_pairs", "restore", "score"],
        "degradations": ["BSRGAN", "Bicubic", "Chain", "Classical", "RealESRGAN", "Walk"],
        "trust": ["trust_classes"],
    },
)
