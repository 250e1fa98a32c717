"""Samples of a face pair, a natural image, and what is drawn for them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ddpm_pairs.faces.draws import draw_training, draw_validation
from ddpm_pairs.images.find import Failure
from ddpm_pairs.tensors import generator_for


class FaceSample(NamedTuple):
    """One sample.

    Attributes:
        hq: HQ face, uint8 (3, h, h), RGB.
        lq: LQ face, uint8 (3, h / scale, h / scale), RGB.
        natural: Natural HQ image, uint8 (3, S, S), RGB.
        draws: A result of ``draw_training`` or ``draw_validation``.
        key: Key of the face.
        failures: Images that could not be decoded and were replaced.
    """

    hq: Tensor
    lq: Tensor
    natural: Tensor
    draws: dict[str, Any]
    key: str
    failures: list[Failure]


@dataclass(frozen=True)
class FaceSamples(Dataset):
    """Face pairs with natural images and draws; natural images with a length start again if there are fewer."""

    faces: Dataset
    natural: Dataset
    draw: Callable[[int, str], dict[str, Any]]

    def __len__(self) -> int:
        """Number of faces; training faces have none."""
        return len(self.faces)

    def __getitem__(self, i: int) -> FaceSample:
        """Return face i with a natural image."""
        face = self.faces[i]
        natural = self.natural[i % len(self.natural) if hasattr(self.natural, "__len__") else i]
        draws, failures = self.draw(i, face.key), face.failures + natural.failures
        return FaceSample(face.hq, face.lq, natural.pixels, draws, face.key, failures)


@dataclass(frozen=True)
class TrainingDraw:
    """Draw training samples by their numbers."""

    seed: int
    lq_shares: tuple[float, float, float]
    color: bool

    def __call__(self, i: int, key: str) -> dict[str, Any]:
        """Return a result of ``draw_training``; the key has no effect."""
        return draw_training(generator_for(self.seed, "face sample", i), self.lq_shares, self.color)


def validation_draw(i: int, key: str) -> dict[str, Any]:
    """Draw the validation sample of a face; its number has no effect."""
    return draw_validation(generator_for("validation", key, "face sample"))


def stack(samples: list[FaceSample]) -> dict[str, Any]:
    """Make a batch of samples; faces of different sizes stay in lists."""
    hq, lq, natural, draws, keys, failures = zip(*samples, strict=True)
    return {
        "hq": list(hq),
        "lq": list(lq),
        "natural": torch.stack(natural),
        "draws": list(draws),
        "key": list(keys),
        "failures": [failure for one in failures for failure in one],
    }
