"""One pair: what is drawn for it, its two pictures, and how good it is."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ddpm_pairs.degradations.walk import psnr_against_hq

MIN_LQ_SIDE = 16


@dataclass(frozen=True)
class Work:
    """One picture and everything that was drawn for it."""

    key: str
    source: str
    source_sha256: str
    hq: Tensor  # (3, H, W), uint8, prepared
    t: int
    degradation: dict[str, Any]
    hq_preparation: dict[str, Any]
    hq_png: bytes | None = None  # a file that holds just that HQ


@dataclass(frozen=True)
class Pair:
    """A finished pair.

    Attributes:
        hq: uint8 (3, H, W), on the CPU.
        lq: uint8 (3, H / scale, W / scale), on the CPU.
        record: Its manifest record.
        hq_png: A PNG file of ``hq``, where there is one already.
    """

    hq: Tensor
    lq: Tensor
    record: dict[str, Any]
    hq_png: bytes | None = None


def too_small(height: int, width: int, scale: int) -> str:
    """The reason for leaving out a picture whose LQ side would fall under 16 px."""
    return f"too small: {width}x{height}, expected {MIN_LQ_SIDE * scale} px or more a side at scale {scale}"


def quality(hq: Tensor, initial: Tensor, lq: Tensor, psnr_drop: float | None) -> dict[str, Any]:
    """``psnr``, ``psnr_initial`` and ``accepted`` of a manifest line.

    A pair is accepted unless its LQ lies more than ``psnr_drop`` dB below its initial LQ: then the walk back changed
    the content rather than the degradation. (Yang et al. give up a t where PSNR to HQ falls under a line; a fixed line
    would judge the handcrafted start as well, see ``psnr_floor`` of the t study.)

    Args:
        hq: (3, H, W), uint8.
        initial: The initial LQ, (3, h, w), uint8.
        lq: (3, h, w), uint8.
        psnr_drop: dB; ``None`` accepts everything.
    """
    after, before = psnr_against_hq(hq, lq), psnr_against_hq(hq, initial)
    return {"psnr": after, "psnr_initial": before, "accepted": is_accepted(after, before, psnr_drop)}


def is_accepted(psnr: float | None, psnr_initial: float | None, psnr_drop: float | None) -> bool:
    """Whether PSNR fell by no more than ``psnr_drop`` dB, ``None`` allowing all; a PSNR of ``None`` is infinite."""
    if psnr_drop is None or psnr is None:
        return True
    return psnr_initial is not None and psnr_initial - psnr <= psnr_drop
