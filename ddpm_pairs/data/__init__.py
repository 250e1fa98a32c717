"""DataModules, imported on first use."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ddpm_pairs.data.degraded import DegradedImages
    from ddpm_pairs.data.high_quality import HighQualityImages
    from ddpm_pairs.data.high_quality_crops import HighQualityCrops
    from ddpm_pairs.data.low_quality import LowQualityImages
    from ddpm_pairs.data.pairs import RestorationPairs
    from ddpm_pairs.data.unpaired import UnpairedImages

__all__ = [
    "DegradedImages",
    "HighQualityCrops",
    "HighQualityImages",
    "LowQualityImages",
    "RestorationPairs",
    "UnpairedImages",
]

_MODULES = {
    "DegradedImages": "degraded",
    "HighQualityCrops": "high_quality_crops",
    "HighQualityImages": "high_quality",
    "LowQualityImages": "low_quality",
    "RestorationPairs": "pairs",
    "UnpairedImages": "unpaired",
}


def __getattr__(name: str) -> type:
    if name in _MODULES:
        globals()[name] = getattr(importlib.import_module(f"ddpm_pairs.data.{_MODULES[name]}"), name)
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
