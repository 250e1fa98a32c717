"""Recommend an initial degradation and a t from the scores of the t study."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ddpm_pairs.study.cells import Cell, fine_power_falls


@dataclass(frozen=True)
class Recommendation:
    """The recommended cell and the reasons for it.

    Attributes:
        degradation: The initial degradation.
        t: The step.
        kid: KID of that cell.
        psnr_median: Median PSNR of that cell in dB; ``None`` if LQ equals HQ.
        psnr_least: The required median PSNR for that degradation in dB; ``None`` without a limit.
        best_by_fid: Degradation and t with the lowest FID among the allowed cells.
        best_by_fid192: The same for fid192.
        warnings: Sentences without a final period.
        words: The recommendation as a sentence without a final period.
        command: The command that makes these pairs.
    """

    degradation: str
    t: int
    kid: float
    psnr_median: float | None
    psnr_least: float | None
    best_by_fid: tuple[str, int]
    best_by_fid192: tuple[str, int]
    warnings: tuple[str, ...]
    words: str
    command: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for ``recommendation.json``."""
        return asdict(self)


def recommend(
    cells: Sequence[Cell],
    psnr_drop: float | None,
    psnr_floor: float | None,
    floor_kid: float,
    command: Callable[[str, int], str],
) -> Recommendation:
    """Choose the cell with the lowest KID among those that keep the content.

    Of all scores that need no trained restorer, KID best predicted which pairs train the better restorer
    (``results/study_d``). Cells at or below the floor count as equally close; the lowest fid192 decides among them.

    Args:
        cells: All cells; each degradation has one at t = 0.
        psnr_drop: How many dB the median PSNR may fall below that at t = 0; ``None`` sets no limit. If LQ at t = 0
            equals HQ, this limit does not apply.
        psnr_floor: Minimum median PSNR in dB; ``None`` sets no minimum.
        floor_kid: KID of real images against real images.
        command: The ``predict`` command for a degradation and a t.

    Returns:
        The recommendation.
    """
    starts = {cell.degradation: cell for cell in cells if cell.t == 0}
    allowed = keeping_content(cells, psnr_drop, psnr_floor)
    warnings = []
    if not allowed:
        warnings.append(f"no cell has a median PSNR of {psnr_floor} dB or more, so the limits were ignored")
        allowed = list(cells)
    best = closest(allowed, floor_kid)
    by_fid, by_fid192 = (min(allowed, key=lambda cell: getattr(cell.scores, score)) for score in ("fid", "fid192"))
    start = starts[best.degradation]
    if math.isinf(start.psnr_median) and psnr_drop is not None and psnr_floor is None:
        warnings.append(
            f"LQ of {best.degradation} at t = 0 equals HQ, so psnr_drop does not apply; "
            "set psnr_floor to limit the loss of content"
        )
    for name in starts:
        if fine_power_falls([cell for cell in cells if cell.degradation == name]):
            warnings.append(
                f"with {name}, the finest octave loses power as t grows, which suggests an undertrained DDPM; "
                "train it longer before using a large t"
            )
    if best.t == 0:
        gained = f"no t is closer to the real images than {best.degradation} alone (KID {best.scores.kid:.3g})"
    else:
        gained = (
            f"use {best.degradation} with t = {best.t}: KID {best.scores.kid:.3g} ({start.scores.kid:.3g} at t = 0, "
            f"{floor_kid:.3g} for real vs. real), median PSNR {best.psnr_median:.2f} dB "
            f"({start.psnr_median:.2f} dB at t = 0)"
        )
    others = [
        f"{name} agrees" if cell is best else f"{name} would choose {cell.degradation} with t = {cell.t}"
        for name, cell in (("FID", by_fid), ("fid192", by_fid192))
    ]
    return Recommendation(
        best.degradation,
        best.t,
        best.scores.kid,
        None if math.isinf(best.psnr_median) else best.psnr_median,
        least_psnr(starts[best.degradation], psnr_drop, psnr_floor),
        (by_fid.degradation, by_fid.t),
        (by_fid192.degradation, by_fid192.t),
        tuple(warnings),
        f"{gained}; {', '.join(others)}",
        command(best.degradation, best.t),
    )


def keeping_content(cells: Sequence[Cell], psnr_drop: float | None, psnr_floor: float | None) -> list[Cell]:
    """Return the cells whose median PSNR satisfies the limits of ``recommend``."""
    starts = {cell.degradation: cell for cell in cells if cell.t == 0}
    least = {name: least_psnr(start, psnr_drop, psnr_floor) for name, start in starts.items()}
    return [cell for cell in cells if least[cell.degradation] is None or cell.psnr_median >= least[cell.degradation]]


def least_psnr(start: Cell, psnr_drop: float | None, psnr_floor: float | None) -> float | None:
    """Return the median PSNR that a degradation must have in dB, given its cell at t = 0; ``None`` without a limit."""
    no_drop = psnr_drop is None or math.isinf(start.psnr_median)
    limits = [*([] if no_drop else [start.psnr_median - psnr_drop]), *([] if psnr_floor is None else [psnr_floor])]
    return max(limits, default=None)


def closest(cells: Sequence[Cell], floor_kid: float) -> Cell:
    """Return the cell with the lowest KID; the lowest fid192 decides among those at or below the floor."""
    return min(cells, key=lambda cell: (max(cell.scores.kid, floor_kid), cell.scores.fid192))
