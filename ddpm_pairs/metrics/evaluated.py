"""Collect and compute all scores of an evaluation."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from ddpm_pairs.errors import UserError
from ddpm_pairs.images.pixels import enlarged
from ddpm_pairs.metrics.collected import PairedScores, SetFeatures
from ddpm_pairs.metrics.features import Inception, RandomFeatures
from ddpm_pairs.metrics.paired_scores import LPIPS, PAIRED, PAIRED_SETTINGS, summarize
from ddpm_pairs.metrics.set_scores import LEAST_PICTURES, set_scores
from ddpm_pairs.metrics.weights import ALEXNET, INCEPTION, weights_path

METRICS = ("fid", "kid", "lpips", "psnr", "ssim")
"""Names that can be requested; ``fid`` includes ``fid192``."""


@dataclass
class Evaluated:
    """Scores of restored images against their references.

    Attributes:
        values: Numbers by name; scores that could not be computed are missing.
        intervals: 95% intervals: of the mean over images for paired scores, of the subsets for ``kid``.
        notes: By score, why it is missing or what to know about it.
        settings: What the scores were computed with.
        pictures: Paired scores by key.
        inputs: Paired scores of the enlarged LQ by key, if requested.
        input_values: Means of ``inputs``.
        n: Number of images.
    """

    values: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float] | None] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, dict[str, float]] = field(default_factory=dict)
    inputs: dict[str, dict[str, float]] = field(default_factory=dict)
    input_values: dict[str, float] = field(default_factory=dict)
    n: int = 0


class Collector(nn.Module):
    """All scores of one evaluation and the networks they need; not part of a LightningModule.

    Args:
        metrics: Some of ``METRICS``.
        features: ``inception``, or ``random`` to try things without weights.
        with_inputs: Also score the bicubically enlarged LQ, the baseline that a restorer must beat.

    Raises:
        UserError: If a score is unknown or weights are missing.
    """

    def __init__(
        self,
        metrics: Sequence[str],
        features: Literal["inception", "random"] = "inception",
        with_inputs: bool = False,
    ) -> None:
        super().__init__()
        if unknown := [name for name in metrics if name not in METRICS]:
            raise UserError(f"metrics: got {unknown[0]!r}; expected some of {', '.join(METRICS)}")
        names = [name for name in PAIRED if name in metrics]
        distance = LPIPS(weights_path(ALEXNET)) if "lpips" in names else None
        self.metrics = tuple(metrics)
        self.paired = PairedScores(names, distance) if names else None
        self.inputs = PairedScores(names, distance) if names and with_inputs else None
        self.sets: SetFeatures | None = None
        if {"fid", "kid"} & set(metrics):
            self.sets = SetFeatures(Inception(weights_path(INCEPTION)) if features == "inception" else RandomFeatures())

    def update(self, result: Tensor, reference: Tensor, lq: Tensor, keys: Sequence[str]) -> None:
        """Add a batch.

        Args:
            result: uint8 (N, 3, H, W).
            reference: uint8 (N, 3, H, W).
            lq: uint8 (N, 3, h, w).
            keys: Keys of the N images.

        Raises:
            UserError: If they cannot be scored; then nothing is added.
        """
        for part in (self.paired, self.sets):
            if part is not None:
                part.update(result, reference, keys)
        if self.inputs is not None:
            self.inputs.update(enlarged(lq, reference.shape[-2:]), reference, keys)

    def reset(self) -> None:
        """Remove all images."""
        for part in (self.paired, self.inputs, self.sets):
            if part is not None:
                part.reset()

    def compute(self) -> Evaluated:
        """Compute all scores over the images of all ranks; every rank must call it and gets the same result."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*before the ``update``")  # from ranks without images
            return self._compute()

    def _compute(self) -> Evaluated:
        found = Evaluated()
        if self.paired is not None:
            found.pictures = self.paired.compute()
            found.n = len(found.pictures)
            found.values, found.intervals, found.notes = summarize(found.pictures, self.paired.names)
            found.settings |= {name: PAIRED_SETTINGS[name] for name in self.paired.names}
        if self.inputs is not None:
            found.inputs = self.inputs.compute()
            found.input_values, _, _ = summarize(found.inputs, self.inputs.names)
        if self.sets is not None:
            self._compare_sets(found)
        return found

    def _compare_sets(self, found: Evaluated) -> None:
        names = [name for name in ("fid", "fid192", "kid") if name.removesuffix("192") in self.metrics]
        result, reference = self.sets.compute()
        found.n = len(result["fid"])
        found.settings["inception"] = f"{self.sets.network.identity}, 299 px, bilinear without antialiasing"
        if found.n < LEAST_PICTURES:
            found.notes |= dict.fromkeys(names, f"fewer than {LEAST_PICTURES} images in a set")
            return
        scores = set_scores(result, reference)
        found.values |= {name: getattr(scores, name) for name in names}
        if "kid" in names:
            found.intervals["kid"] = scores.kid_interval
