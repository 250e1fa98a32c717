"""Colors that files declare outside of a profile: gamma, primaries, and HDR, in PNG, AVIF, and HEIC files."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ddpm_pairs.errors import UserError
from ddpm_pairs.images.mend import PNG, chunks_of

_SRGB_GAMMA = 0.45455
_SRGB_PRIMARIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
_HDR = {16: "PQ", 18: "HLG"}
"""Transfer functions of HDR (ITU-T H.273), whose white is undefined on an 8-bit scale."""

_LINEAR, _SRGB_LIKE = 8, (1, 2, 6, 13, 14, 15)
_BT709, _UNSPECIFIED = 1, 2


@dataclass(frozen=True)
class Declared:
    """What a file declares about its colors.

    Attributes:
        gamma: Exponent of the stored values relative to light; ``None`` if they are sRGB.
        ignored: Names of chunks whose declaration is not used.
    """

    gamma: float | None = None
    ignored: tuple[str, ...] = ()


class HDRError(UserError):
    """Samples with an HDR transfer function."""


def declared_colors(data: bytes, info: Mapping[str, Any]) -> Declared:
    """Read the declarations that apply: cICP comes before a profile, sRGB, and gAMA with cHRM, in this order.

    Args:
        data: The bytes of the file.
        info: Pillow's ``info`` of the image.

    Raises:
        HDRError: If the samples are PQ or HLG.
    """
    cicp = _cicp(data)
    if cicp is not None:
        name, primaries, transfer = cicp
        if transfer in _HDR:
            raise HDRError(f"HDR samples ({_HDR[transfer]}, {name}) have no defined white; save it as sRGB")
        fits = primaries in (_BT709, _UNSPECIFIED) and transfer in (_LINEAR, *_SRGB_LIKE)
        return Declared(1.0 if transfer == _LINEAR else None, () if fits else (name,))
    if "icc_profile" in info or "srgb" in info:
        return Declared(ignored=_hdr_metadata(data))
    gamma, primaries, ignored = info.get("gamma", _SRGB_GAMMA), info.get("chromaticity"), _hdr_metadata(data)
    if primaries and max(abs(one - other) for one, other in zip(primaries, _SRGB_PRIMARIES, strict=True)) > 0.01:
        ignored += ("cHRM",)
    if not 0.05 <= gamma <= 5:
        return Declared(ignored=(*ignored, "gAMA"))
    return Declared(None if abs(gamma - _SRGB_GAMMA) < 0.01 else gamma, ignored)


def to_srgb_table(gamma: float, levels: int) -> np.ndarray:
    """Return sRGB as uint8 for each stored value 0..levels - 1 of a file with a gamma."""
    light = (np.arange(levels) / (levels - 1)) ** (1 / gamma)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(encoded * 255).astype(np.uint8)


def _cicp(data: bytes) -> tuple[str, int, int] | None:
    """Return the name of the declaration, primaries, and transfer function (H.273), if there are any."""
    if data.startswith(PNG):
        for kind, content, intact in chunks_of(data[: data.find(b"IDAT") + 4]):
            if kind == b"cICP" and intact and len(content) == 4:
                return "cICP", content[0], content[1]
        return None
    place = data.find(b"colrnclx", 0, 2**16)
    if place < 0 or len(data) < place + 12:
        return None
    primaries, transfer = struct.unpack_from(">HH", data, place + 8)
    return "nclx", primaries, transfer


def _hdr_metadata(data: bytes) -> tuple[str, ...]:
    head = data[: max(data.find(b"IDAT"), 0)] if data.startswith(PNG) else b""
    return tuple(name for name in ("mDCV", "mDCv", "cLLI", "cLLi") if name.encode() in head)
