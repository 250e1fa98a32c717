"""Find, decode, key and crop pictures; the LightningDataModule family.

The DataModules are imported on first use, so that `ddpm_pairs.data.pictures` and `ddpm_pairs.data.decode` stay free of
torch for the commands that must answer at once.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ddpm_pairs.data.high_quality import HighQualityImages
    from ddpm_pairs.data.low_quality import LowQualityImages

__all__ = ["HighQualityImages", "LowQualityImages"]


def __getattr__(name: str) -> type:
    if name == "LowQualityImages":
        from ddpm_pairs.data.low_quality import LowQualityImages

        return LowQualityImages
    if name == "HighQualityImages":
        from ddpm_pairs.data.high_quality import HighQualityImages

        return HighQualityImages
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
