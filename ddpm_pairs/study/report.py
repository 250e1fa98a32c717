"""The t study as one HTML page."""

from collections.abc import Mapping, Sequence
from typing import Any

from ddpm_pairs.metrics.texture import band_names, chroma_noise
from ddpm_pairs.reports.contact_sheet import spread
from ddpm_pairs.reports.html.browser import Browser, Item, Stage, within_budget
from ddpm_pairs.reports.html.templates import render
from ddpm_pairs.reports.html.values import Table, as_text, distance, number, png_uri
from ddpm_pairs.study.cells import Cell
from ddpm_pairs.study.figures import panels_as_svg, panels_of
from ddpm_pairs.study.folder import PictureResult
from ddpm_pairs.study.recommendation import Recommendation
from ddpm_pairs.study.sets import RealSet

MOST = 24
"""Images in the browser."""


def study_report(
    cells: Sequence[Cell],
    real: RealSet,
    chosen: Recommendation,
    results: Sequence[PictureResult],
    values: Mapping[str, Any],
    notes: Sequence[str],
) -> str:
    """Render the study as a page.

    Args:
        cells: All cells.
        real: The real LQ patches they were compared with.
        chosen: The recommendation.
        results: All images; up to ``MOST``, evenly spaced, are shown.
        values: Settings; ``degradations`` and ``ts`` are those of the results.
        notes: Sentences without a final period about what was left out.
    """
    degradations, ts = values["degradations"], values["ts"]
    what = (
        f"{cells[0].n} HQ images, {_count(len(degradations), 'initial degradation')}, {_count(len(ts), 'value')} of t"
    )
    return render(
        "study/report.html.j2",
        title="The t study",
        lead=f"{what}. LQ is compared with real LQ images on native patches of {values['patch']} px.",
        chosen=chosen,
        notes=notes,
        plots=panels_as_svg(panels_of(cells, real, chosen)),
        cells=_table(cells, real, chosen),
        values=as_text(values),
        count=len(results),
        images=Browser(
            within_budget([_item(results[i], ts) for i in spread(len(results), MOST)]),
            degradations,
            row=degradations.index(chosen.degradation),
            stage=1 + ts.index(chosen.t),
        ),
    )


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _table(cells: Sequence[Cell], real: RealSet, chosen: Recommendation) -> Table:
    bands = [f"power {band.replace('-', ' to ')}, dB" for band in band_names(len(cells[0].power_gaps))]
    head = ["degradation", "t", "fid192", "FID", "KID", "PSNR, mean", "PSNR, median", "chroma noise", *bands]
    rows = [
        [
            *(cell.degradation, str(cell.t), distance(cell.scores.fid192), distance(cell.scores.fid)),
            *(number(cell.scores.kid, 4), number(cell.psnr), number(cell.psnr_median), number(cell.chroma_noise)),
            *(number(gap, 1, "+") for gap in cell.power_gaps),
        ]
        for cell in cells
    ]
    floor, chroma = real.floor, number(chroma_noise(real.patches.float() / 255))
    scores = [distance(floor.fid192), distance(floor.fid), number(floor.kid, 4)]
    rows.append(["real vs. real", "", *scores, "", "", chroma, *[""] * len(bands)])
    place = next(n for n, cell in enumerate(cells) if (cell.degradation, cell.t) == (chosen.degradation, chosen.t))
    return Table(f"Every degradation at every t, {cells[0].n} images per row", head, rows, {place: "recommended"})


def _item(result: PictureResult, ts: Sequence[int]) -> Item:
    hq = Stage("HQ", "HQ", "", png_uri(result.hq))
    rows = tuple(
        (
            hq,
            *(
                Stage(str(t), f"t = {t}" if t else "initial LQ", f"{number(psnr)} dB", png_uri(patch))
                for t, patch, psnr in zip(ts, patches, psnrs.tolist(), strict=True)
            ),
        )
        for patches, psnrs in zip(result.patches, result.psnr, strict=True)
    )
    return Item(result.key, tuple(result.patches.shape[-2:]), rows)
