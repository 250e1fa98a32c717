"""What is random in a sample of face and natural image: colors, and how the LQ images are made.

The numbers are those of ReDegNet's released training (Li et al., ECCV 2022, arXiv 2210.00752). Everything is drawn as
plain values in a loader process, and applied to a batch on the device.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ddpm_pairs.degradations import ReDegNetChain
from ddpm_pairs.degradations.ops.color import to_gray
from ddpm_pairs.degradations.ops.draws import chance, choice, uniform
from ddpm_pairs.images.pixels import enlarged, round_to_8_bit
from ddpm_pairs.tensors import to_device

CHANGES = ("replaced", "extra", None)
"""What happens to the real LQ face: it is replaced by a degraded HQ face, degraded further, or used as it is."""

REPLACING, EXTRA = ReDegNetChain((3.0, 6.0), simple=0.0), ReDegNetChain((1.0, 2.0), simple=0.0)
SHARED = ReDegNetChain()
"""The degradation that a face and a natural image have in common."""

GRAY_PROBABILITY = 0.05
FACE_GRAYS = (0.8, 0.9, 1.0)
JITTER_PROBABILITY = 0.4
JITTER = (0.9, 1.1)


def draw_validation(generator: torch.Generator) -> dict[str, Any]:
    """Draw the degradation that both images share; LQ is the real one, and colors are unchanged."""
    shared = SHARED.draw(generator)
    return {"shared": shared, "lq": None, "face_gray": 0.0, "natural_gray": 0.0, "natural_gains": [1.0] * 3}


def draw_training(generator: torch.Generator, lq_shares: Sequence[float], color: bool) -> dict[str, Any]:
    """Draw one training sample.

    Args:
        generator: A CPU generator used for this sample only.
        lq_shares: Probabilities of ``CHANGES``.
        color: Whether to change colors.

    Returns:
        ``shared``: Parameters of ``SHARED``. ``lq``: ``None``, or ``change`` and ``parameters``. ``face_gray`` and
        ``natural_gray``: how much of the color is removed, 0 to 1. ``natural_gains``: factors of R, G, and B.
    """
    drawn = draw_validation(generator)
    if color:
        drawn["face_gray"] = choice(generator, FACE_GRAYS) if chance(generator, GRAY_PROBABILITY) else 0.0
        drawn["natural_gray"] = 1.0 if chance(generator, GRAY_PROBABILITY) else 0.0
        if chance(generator, JITTER_PROBABILITY):
            drawn["natural_gains"] = [uniform(generator, *JITTER) for _ in range(3)]
    change = choice(generator, CHANGES, lq_shares)
    if change is not None:
        chain = REPLACING if change == "replaced" else EXTRA
        drawn["lq"] = {"change": change, "parameters": chain.draw(generator)}
    return drawn


@torch.no_grad()
def finish(
    hq: list[Tensor], lq: list[Tensor], natural: Tensor, draws: list[dict[str, Any]], size: int
) -> dict[str, Tensor]:
    """Resize the faces to one size, change colors, and degrade.

    Args:
        hq: N HQ faces, uint8 (3, h, h), h differing.
        lq: N LQ faces, uint8 (3, h / scale, h / scale).
        natural: Natural HQ images, uint8 (N, 3, size, size).
        draws: N results of ``draw_training`` or ``draw_validation``.
        size: Side of all results in pixels.

    Returns:
        ``face_hq``, ``face_lq``, ``face_syn_lq``, ``natural_hq``, and ``natural_syn_lq``, each (N, 3, size, size),
        float32 in [0, 1], multiples of 1/255.
    """
    face_hq, face_lq = (
        torch.stack([enlarged(one, (size, size)) for one in side]).float().div_(255) for side in (hq, lq)
    )
    face_hq, face_lq = (_grayed(faces, [one["face_gray"] for one in draws]) for faces in (face_hq, face_lq))
    natural = _scaled(natural.float().div_(255), [one["natural_gains"] for one in draws])
    natural = _grayed(natural, [one["natural_gray"] for one in draws])
    for change, chain, source in (("replaced", REPLACING, face_hq), ("extra", EXTRA, face_lq)):
        rows = [row for row, one in enumerate(draws) if one["lq"] is not None and one["lq"]["change"] == change]
        if rows:
            index = to_device(torch.tensor(rows), source.device)
            changed = chain.apply(source.index_select(0, index), [draws[row]["lq"]["parameters"] for row in rows])
            face_lq = face_lq.index_copy(0, index, changed)
    shared = [one["shared"] for one in draws]
    face_syn_lq, natural_syn_lq = SHARED.apply(torch.cat([face_hq, natural]), shared * 2).split(len(draws))
    return {
        "face_hq": face_hq,
        "face_lq": face_lq,
        "face_syn_lq": face_syn_lq,
        "natural_hq": natural,
        "natural_syn_lq": natural_syn_lq,
    }


def _grayed(images: Tensor, shares: list[float]) -> Tensor:
    """Blend (N, 3, H, W) with its luminance; a share of 0 changes nothing."""
    weights = to_device(torch.tensor(shares), images.device).view(-1, 1, 1, 1)
    return round_to_8_bit(images.lerp(to_gray(images), weights))


def _scaled(images: Tensor, gains: list[list[float]]) -> Tensor:
    """Multiply the channels of (N, 3, H, W)."""
    return round_to_8_bit(images * to_device(torch.tensor(gains), images.device).view(-1, 3, 1, 1))
