"""The table of starts as one HTML page."""

from collections.abc import Mapping, Sequence
from typing import Any

from ddpm_pairs.metrics.texture import band_names, chroma_noise
from ddpm_pairs.reports.contact_sheet import spread
from ddpm_pairs.reports.html.browser import Browser, Item, Stage, within_budget
from ddpm_pairs.reports.html.templates import render
from ddpm_pairs.reports.html.values import Table, as_text, distance, number, png_uri
from ddpm_pairs.study.module import Findings
from ddpm_pairs.study.starts.figures import panels_as_svg
from ddpm_pairs.study.starts.rows import Row

MOST = 24
"""Images in the browser."""


def starts_report(
    rows: Sequence[Row], reference: str, found: Findings, values: Mapping[str, Any], notes: Sequence[str]
) -> str:
    """Render the table as a page.

    Args:
        rows: The rows of the table.
        reference: The degradation from which shares are counted.
        found: The study's findings; up to ``MOST`` of its images, evenly spaced, are shown.
        values: Settings of the study.
        notes: Sentences without a final period about what was left out.
    """
    shown = [found.results[i] for i in spread(len(found.results), MOST)]
    places = [(values["degradations"].index(row.cell.degradation), values["ts"].index(row.cell.t)) for row in rows]
    items = []
    for result in shown:
        stages = [Stage("HQ", "HQ", "", png_uri(result.hq))]
        for place, (row, (d, t)) in enumerate(zip(rows, places, strict=True), start=1):
            note = f"{number(result.psnr[d, t].item())} dB"
            stages.append(Stage(str(place), row.name, note, png_uri(result.patches[d, t])))
        items.append(Item(result.key, tuple(result.patches.shape[-2:]), (tuple(stages),)))
    best = min(range(len(rows)), key=lambda n: (max(rows[n].cell.scores.kid, found.real.floor.kid), n))
    return render(
        "study/starts/report.html.j2",
        title="Ways to make LQ",
        lead=f"{rows[0].cell.n} HQ images, each degradation as it is and walked back. LQ is compared with real LQ "
        f"images on native patches of {values['patch']} px.",
        notes=notes,
        plots=panels_as_svg(rows, found.real),
        rows=_table(rows, reference, found, best),
        reference=reference,
        values=as_text(values),
        count=len(found.results),
        images=Browser(within_budget(items), ["all"], row=0, stage=1 + best),
    )


def _table(rows: Sequence[Row], reference: str, found: Findings, best: int) -> Table:
    bands = [f"power {band.replace('-', ' to ')}, dB" for band in band_names(len(rows[0].cell.power_gaps))]
    head = ["degradation", "FID", "KID", "fid192", "way by FID", "by KID", "by fid192", "chroma noise", *bands]
    head += ["PSNR, median", "ms per pair"]
    lines = []
    for row in rows:
        cell, scores = row.cell, row.cell.scores
        line = [row.name, distance(scores.fid), number(scores.kid, 4), distance(scores.fid192)]
        line += [f"{number(100 * share, 0)}%" for share in row.shares.values()]
        line += [number(cell.chroma_noise), *(number(gap, 1, "+") for gap in cell.power_gaps)]
        lines.append([*line, number(cell.psnr_median), number(row.milliseconds, 1)])
    floor, chroma = found.real.floor, number(chroma_noise(found.real.patches.float() / 255))
    line = ["real vs. real", distance(floor.fid), number(floor.kid, 4), distance(floor.fid192), "100%", "100%", "100%"]
    lines.append([*line, chroma, *["+0.0"] * len(bands), "", ""])
    return Table(f"Shares are counted from {reference} as it is", head, lines, {best: "lowest KID"})
