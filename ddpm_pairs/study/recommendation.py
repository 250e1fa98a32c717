"""Which t, and which handcrafted start, the study recommends."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ddpm_pairs.study.cells import Cell, fine_power_falls


@dataclass(frozen=True)
class Recommendation:
    """The choice.

    Attributes:
        degradation: The handcrafted start.
        t: The step.
        kid: Of that cell.
        psnr_median: Of that cell, dB; ``None`` where LQ is HQ itself.
        psnr_least: What the median had to reach for that degradation, dB; ``None`` without a limit.
        best_by_fid: Degradation and t with the least FID among those allowed.
        best_by_fid192: Those with the least fid192.
        warnings: Sentences.
        words: The recommendation in a sentence.
        command: What to type.
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
        """As plain values for ``recommendation.json``."""
        return asdict(self)


def recommend(
    cells: Sequence[Cell], psnr_drop: float | None, psnr_floor: float | None, floor_kid: float, command: str
) -> Recommendation:
    """Take the cell of least KID among those that keep the content.

    Of what can be measured before any restorer is trained, KID foretold best which pairs train the better one
    (``results/study_d``). Cells that are no farther from real pictures than these are from each other count as equally
    near; the least fid192 decides among them.

    Args:
        cells: All cells; each degradation has one at t = 0.
        psnr_drop: By how many dB the median PSNR may fall below that at t = 0; ``None`` allows any. Where LQ at t = 0
            is HQ itself, nothing can be counted from it, and any is allowed.
        psnr_floor: Least median PSNR in dB; ``None`` asks for none.
        floor_kid: KID of real pictures against real ones.
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
    best = min(allowed, key=lambda cell: (max(cell.scores.kid, floor_kid), cell.scores.fid192))
    by_fid, by_fid192 = (min(allowed, key=lambda cell: getattr(cell.scores, score)) for score in ("fid", "fid192"))
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
    if best.t == 0:
        gained = f"no t comes nearer to the real pictures than {best.degradation} itself (KID {best.scores.kid:.3g})"
    else:
        gained = (
            f"start with {best.degradation} and t = {best.t}: KID {best.scores.kid:.3g} against "
            f"{start.scores.kid:.3g} at t = 0 and {floor_kid:.3g} for real against real, median PSNR "
            f"{best.psnr_median:.2f} against {start.psnr_median:.2f} dB"
        )
    others = [
        f"{name} agrees" if cell is best else f"{name} would take {cell.degradation} and t = {cell.t}"
        for name, cell in (("FID", by_fid), ("fid192", by_fid192))
    ]
    return Recommendation(
        best.degradation,
        best.t,
        best.scores.kid,
        None if math.isinf(best.psnr_median) else best.psnr_median,
        least(best),
        (by_fid.degradation, by_fid.t),
        (by_fid192.degradation, by_fid192.t),
        tuple(warnings),
        f"{gained}; {', '.join(others)}",
        command.format(degradation=best.degradation, t=best.t),
    )
