"""ddpm_pairs: realistic HQ-LQ training pairs for image restoration, made with a DDPM of your own LQ images.

Importing the package imports nothing else, so that ``lightning --help`` answers at once; the public names below are
imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ddpm_pairs.api import load_ddpm, make_pairs, restore, score
    from ddpm_pairs.degradations import BSRGAN, Bicubic, Chain, Classical, RealESRGAN, Walk

__version__ = "0.1.0"

__all__ = [
    "BSRGAN",
    "Bicubic",
    "Chain",
    "Classical",
    "RealESRGAN",
    "Walk",
    "__version__",
    "load_ddpm",
    "make_pairs",
    "restore",
    "score",
]

_API = ("load_ddpm", "make_pairs", "restore", "score")


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("ddpm_pairs.api" if name in _API else "ddpm_pairs.degradations"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
