"""The scores that ``ddpm-pairs score`` and ``test`` write and show."""

from dataclasses import dataclass, field
from typing import Any

from ddpm_pairs.images.find import Failure, Picture

SCORES = ("fid", "fid192", "kid", "lpips", "psnr", "ssim")
"""Names of all scores, in the order of the result files."""

HIGHER_IS_BETTER = ("psnr", "ssim")


@dataclass
class Scores:
    """Scores of a set of images against references.

    Attributes:
        values: Number or ``None`` under each name of ``SCORES``.
        n: Number of images (or patches) in set scores; without set scores, number of pairs.
        intervals: 95% intervals: of the mean over images for paired scores, of the subsets for ``kid``.
        floor: With patches, set scores of one half of the references against the other.
        inputs: Paired scores of the restorer's input: LQ, enlarged bicubically.
        notes: By score, why it is missing or what to know about it.
        settings: What the scores were computed with.
        pictures: Paired scores by key.
        files: The result image and its reference by key, for ``report.html``.
        failures: Images that could not be scored.
    """

    values: dict[str, float | None] = field(default_factory=lambda: dict.fromkeys(SCORES))
    n: int = 0
    intervals: dict[str, tuple[float, float] | None] = field(default_factory=dict)
    floor: dict[str, float] | None = None
    inputs: dict[str, float] | None = None
    notes: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, dict[str, float]] = field(default_factory=dict)
    files: dict[str, tuple[Picture, Picture]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
