"""Degradation models and records that several test files share."""

from typing import Any

import torch
from skimage.data import astronaut

from ddpm_pairs.degradations import ClassicalFaces, Degradation, OnHQGrid, by_name

NAMES = ("bicubic", "classical", "bsrgan", "real_esrgan")
FACES = [OnHQGrid("bicubic"), ClassicalFaces(), OnHQGrid("bsrgan"), OnHQGrid("real_esrgan")]
"""Those that bring LQ back to the HQ grid."""
MODELS = FACES + [by_name(name, scale) for name in NAMES for scale in (1, 2, 4) if (name, scale) != ("bicubic", 1)]
"""Every model at every scale that it offers."""

NO_BLUR = {"kind": "iso", "side": 1, "sigma_x": 1.0, "sigma_y": 1.0, "angle": 0.0}
NO_NOISE = {"kind": "gaussian", "level": 0.0, "gray": False, "noise_seed": 0}


def label(model: Degradation) -> str:
    return f"{inner_name(model)}-x{model.scale}-{'faces' if model in FACES else 'natural'}"


def inner_name(model: Degradation) -> str:
    """The name of the recipe, also of one that is brought back to the HQ grid."""
    return getattr(model, "degradation", model).name.removesuffix("_faces")


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
