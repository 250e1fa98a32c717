"""DataModules, imported on first use."""

# ruff: noqa: F401 - for type checkers; lazy_loader makes __all__

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from ddpm_pairs.data.adaptation import AdaptationImages, DegradedAdaptationImages
    from ddpm_pairs.data.degraded import DegradedImages
    from ddpm_pairs.data.high_quality import HighQualityImages
    from ddpm_pairs.data.high_quality_crops import HighQualityCrops
    from ddpm_pairs.data.low_quality import LowQualityImages
    from ddpm_pairs.data.pairs import RestorationPairs
    from ddpm_pairs.data.unpaired import UnpairedImages
    from ddpm_pairs.data.unpaired_crops import UnpairedCrops

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "adaptation": ["AdaptationImages", "DegradedAdaptationImages"],
        "degraded": ["DegradedImages"],
        "high_quality": ["HighQualityImages"],
        "high_quality_crops": ["HighQualityCrops"],
        "low_quality": ["LowQualityImages"],
        "pairs": ["RestorationPairs"],
        "unpaired": ["UnpairedImages"],
        "unpaired_crops": ["UnpairedCrops"],
    },
)
