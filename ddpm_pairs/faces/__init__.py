"""Faces as a source of knowledge about a degradation, imported on first use."""

# ruff: noqa: F401 - for type checkers; lazy_loader makes __all__

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from ddpm_pairs.faces.pairs import FacePairs
    from ddpm_pairs.faces.restored import restored_faces

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"pairs": ["FacePairs"], "restored": ["restored_faces"]}
)
