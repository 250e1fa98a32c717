"""Degradation models and records that several test files share."""

from typing import Any

import torch
from skimage.data import astronaut

from ddpm_pairs.degradations import Degradation, build_degradation

NAMES = ("bicubic", "classical", "bsrgan", "real_esrgan")
MODELS = [
    build_degradation(name, scale, preset)
    for name in NAMES
    for scale, preset in ((1, "faces"), (1, "natural"), (2, "natural"), (4, "natural"))
    if (name, scale, preset) != ("bicubic", 1, "natural")
]
"""Every model at every scale and preset that it offers."""

NO_BLUR = {"kind": "iso", "side": 1, "sigma_x": 1.0, "sigma_y": 1.0, "angle": 0.0}
NO_NOISE = {"kind": "gaussian", "level": 0.0, "gray": False, "noise_seed": 0}


def label(model: Degradation) -> str:
    return f"{model.name}-x{model.scale}-{model.preset}"


def drawn(model: Degradation, count: int, seed: int = 0) -> list[dict[str, Any]]:
    return [model.draw(torch.Generator().manual_seed(1000 * seed + number)) for number in range(count)]


def rewritten(record: Any, **changes: Any) -> Any:
    """A copy in which, at any depth, each entry named in `changes` that is not None has the value given there."""
    if isinstance(record, list):
        return [rewritten(entry, **changes) for entry in record]
    if not isinstance(record, dict):
        return record
    return {
        name: changes[name] if name in changes and value is not None else rewritten(value, **changes)
        for name, value in record.items()
    }


def crops(count: int, height: int, width: int) -> torch.Tensor:
    """(count, 3, height, width) overlapping crops of one photograph."""
    photo = torch.from_numpy(astronaut()).permute(2, 0, 1).float().div(255)
    return torch.stack([photo[:, 20 * i : 20 * i + height, 30 * i : 30 * i + width] for i in range(count)])
