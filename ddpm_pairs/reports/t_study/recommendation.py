"""Which t, and which handcrafted start, the study recommends."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ddpm_pairs.reports.t_study.cells import Cell, fine_power_falls


@dataclass(frozen=True)
class Recommendation:
    """The choice.

    Attributes:
        degradation: The handcrafted start.
        t: The step.
        fid192: Of that cell.
        psnr_median: Of that cell, dB; ``None`` where LQ is HQ itself.
        psnr_least: What the median had to reach for that degradation, dB; ``None`` without a limit.
        fid_agrees: Whether FID at 2048-d is least in the same cell, among those allowed.
        best_by_fid: Degradation and t with the least FID.
        warnings: Sentences.
        words: The recommendation in a sentence.
        command: What to type.
    """

    degradation: str
    t: int
    fid192: float
    psnr_median: float | None
    psnr_least: float | None
    fid_agrees: bool
    best_by_fid: tuple[str, int]
    warnings: tuple[str, ...]
    words: str
    command: str

    def as_dict(self) -> dict[str, Any]:
        """As plain values for ``recommendation.json``."""
        return asdict(self)


def recommend(
    cells: Sequence[Cell], psnr_drop: float | None, psnr_floor: float | None, floor_fid192: float, command: str
) -> Recommendation:
    """Take the cell of least fid192 among those that keep the content.

    Args:
        cells: All cells; each degradation has one at t = 0.
        psnr_drop: By how many dB the median PSNR may fall below that at t = 0; ``None`` allows any. Where LQ at t = 0
            is HQ itself, nothing can be counted from it, and any is allowed.
        psnr_floor: Least median PSNR in dB; ``None`` asks for none.
        floor_fid192: fid192 of real pictures against real ones.
        command: The command of ``predict`` with ``{degradation}`` and ``{t}`` in it.
    """
    starts = {cell.degradation: cell for cell in cells if cell.t == 0}

    def least(cell: Cell) -> float | None:
        start = starts[cell.degradation].psnr_median
        limits = [] if psnr_drop is None or math.isinf(start) else [start - psnr_drop]
        limits += [] if psnr_floor is None else [psnr_floor]
        return max(limits, default=None)

    allowed = [cell for cell in cells if least(cell) is None or cell.psnr_median >= least(cell)]
    warnings = []
    if not allowed:
        warnings.append(f"no cell reaches a median PSNR of {psnr_floor} dB: the choice is among all")
        allowed = list(cells)
    best = min(allowed, key=lambda cell: cell.scores.fid192)
    by_fid = min(allowed, key=lambda cell: cell.scores.fid)
    start = starts[best.degradation]
    if math.isinf(start.psnr_median) and psnr_drop is not None and psnr_floor is None:
        warnings.append(
            f"{best.degradation} at t = 0 is HQ itself, from which psnr_drop cannot be counted: "
            "set psnr_floor to say how much of the content to keep"
        )
    for name in starts:
        if fine_power_falls([cell for cell in cells if cell.degradation == name]):
            warnings.append(
                f"from {name} the finest octave loses power with t, the sign of a DDPM trained too little: "
                "train it longer before trusting large t"
            )
    agrees = by_fid is best
    if best.t == 0:
        gained = (
            f"no t comes nearer to the real pictures than {best.degradation} itself (fid192 {best.scores.fid192:.4g})"
        )
    else:
        gained = (
            f"start with {best.degradation} and t = {best.t}: fid192 {best.scores.fid192:.4g} against "
            f"{start.scores.fid192:.4g} at t = 0 and {floor_fid192:.4g} for real against real, median PSNR "
            f"{best.psnr_median:.2f} against {start.psnr_median:.2f} dB"
        )
    words = f"{gained}; FID at 2048-d " + (
        "agrees" if agrees else f"would take {by_fid.degradation} and t = {by_fid.t}, but sees content first"
    )
    return Recommendation(
        best.degradation,
        best.t,
        best.scores.fid192,
        None if math.isinf(best.psnr_median) else best.psnr_median,
        least(best),
        agrees,
        (by_fid.degradation, by_fid.t),
        tuple(warnings),
        words,
        command.format(degradation=best.degradation, t=best.t),
    )
