"""How much of a code is content: whether codes that are close have the same degradation, or the same face."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ddpm_pairs.degradations.base import Degradation
from ddpm_pairs.degradations.learned.redegnet.networks import DegNet
from ddpm_pairs.tensors import full_float32, generator_for

DEGRADATIONS = 8
"""Number of known degradations that are applied to each face."""
BATCH = 8
"""Number of faces that DegNet reads together; at 256 px, more would take gigabytes."""


@dataclass(frozen=True)
class Retrieval:
    """How often the nearest neighbor of a code shares its degradation, or its face.

    A code without content scores high on degradations, and at or below chance on faces.

    Attributes:
        faces: Number of faces.
        degradations: Number of degradations; each face has each of them.
        same_degradation: Share of codes whose nearest neighbor has the same degradation.
        same_face: Share of codes whose nearest neighbor has the same face.
        chance_degradation: ``same_degradation`` of random neighbors.
        chance_face: ``same_face`` of random neighbors.
    """

    faces: int
    degradations: int
    same_degradation: float
    same_face: float
    chance_degradation: float
    chance_face: float

    def plain(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """Say it in one line."""
        return (
            f"nearest codes: same degradation {self.same_degradation:.0%} (chance {self.chance_degradation:.0%}), "
            f"same face {self.same_face:.0%} (chance {self.chance_face:.0%}); {self.faces} faces x "
            f"{self.degradations} degradations"
        )


def retrieval(codes: Tensor) -> Retrieval:
    """Find the nearest neighbor of each code among all others, by the L1 distance that trains the codes.

    Args:
        codes: (faces, degradations, code), at least two of each.
    """
    faces, degradations = codes.shape[:2]
    count = faces * degradations
    distances = torch.cdist(codes.flatten(0, 1).double(), codes.flatten(0, 1).double(), p=1)
    nearest = distances.fill_diagonal_(torch.inf).argmin(dim=1)
    own = torch.arange(count, device=codes.device)
    return Retrieval(
        faces,
        degradations,
        float((nearest % degradations == own % degradations).double().mean()),
        float((nearest // degradations == own // degradations).double().mean()),
        (faces - 1) / (count - 1),
        (degradations - 1) / (count - 1),
    )


@torch.no_grad()
def codes_of_degraded(net: DegNet, hq: Tensor, degradation: Degradation, seed: int) -> Tensor:
    """Read codes from faces that all have the same known degradations, with the same noise.

    Args:
        net: DegNet, on the device of ``hq``.
        hq: (faces, 3, size, size) in [0, 1].
        degradation: A degradation of scale 1.
        seed: Seed of its parameters.

    Returns:
        (faces, ``DEGRADATIONS``, code).
    """
    codes = []
    for number in range(DEGRADATIONS):
        drawn = degradation.draw(generator_for(seed, "retrieval", number))
        pairs = zip(hq.split(BATCH), degradation.apply(hq, [drawn] * len(hq)).split(BATCH), strict=True)
        with full_float32(hq.device):
            codes.append(torch.cat([net(*pair) for pair in pairs]))
    return torch.stack(codes, dim=1)
