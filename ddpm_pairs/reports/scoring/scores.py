"""What scoring pictures gives, on disk and on the terminal."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from ddpm_pairs.files import write_atomically, write_table
from ddpm_pairs.images.find import Failure, Picture
from ddpm_pairs.reports.scoring.report import score_report

FAILURES_SHOWN = 10

SCORES = ("fid", "fid192", "kid", "lpips", "psnr", "ssim")
"""What stands in the results, in this order."""


@dataclass
class Scores:
    """All that ``metrics.json`` holds.

    Attributes:
        values: Number or None under each name of ``SCORES``.
        n: Pictures (or patches) of the result that the set scores compare; without set scores, pairs.
        intervals: 95% bounds: of the mean over pictures for paired scores, of the subsets for ``kid``.
        floor: With patches, the set scores of one half of the reference pictures against the other.
        inputs: Paired scores of what was restored: LQ, enlarged bicubically.
        notes: Why a score is missing, and what to know about one.
        settings: What they were computed with.
        pictures: Paired scores by key.
        files: By the same keys, the result's and the reference's picture, for ``report.html``.
        failures: Pictures that could not be scored.
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


def write_scores(root: Path, scores: Scores) -> None:
    """Write ``metrics.json``, ``metrics.csv``, ``report.html`` and, of pairs, ``pictures.csv`` into a folder."""
    document = scores.values | {
        "n": scores.n,
        "intervals": scores.intervals,
        "floor": scores.floor,
        "input": scores.inputs,
        "notes": scores.notes,
        "settings": scores.settings,
        "failures": [vars(failure) for failure in scores.failures],
    }
    write_atomically(root / "metrics.json", (json.dumps(document, indent=2) + "\n").encode())
    values = ["" if scores.values[name] is None else scores.values[name] for name in SCORES]
    write_table(root / "metrics.csv", [[*SCORES, "n"], [*values, scores.n]])
    write_atomically(root / "report.html", score_report(scores).encode())
    if scores.pictures:
        names = list(next(iter(scores.pictures.values())))
        rows = [[key, *(found[name] for name in names)] for key, found in scores.pictures.items()]
        write_table(root / "pictures.csv", [["key", *names], *rows])


def print_scores(scores: Scores, root: Path) -> None:
    """The scores as a table, with intervals, floor and notes."""
    console = Console(highlight=False, soft_wrap=True)
    for name in SCORES:
        value = scores.values[name]
        if value is None:
            if name in scores.notes:
                console.print(f"{name:<8}{'-':>10}   {scores.notes[name]}")
            continue
        words = []
        if interval := scores.intervals.get(name):
            words.append(f"95% {interval[0]:.4g} to {interval[1]:.4g}")
        if scores.floor and name in scores.floor:
            words.append(f"reference against itself {scores.floor[name]:.4g}")
        if scores.inputs and name in scores.inputs:
            words.append(f"LQ enlarged {scores.inputs[name]:.4g}")
        if name in scores.notes:
            words.append(scores.notes[name])
        console.print(f"{name:<8}{value:>10.4f}   {'; '.join(words)}".rstrip())
    console.print(f"{'n':<8}{scores.n:>10}")
    if scores.failures:
        console.print(f"left out: {len(scores.failures)}")
        for failure in scores.failures[:FAILURES_SHOWN]:
            console.print(f"  {failure.source}: {failure.reason}")
    console.print(f"written to {root}")
