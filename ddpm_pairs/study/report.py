"""The t study as one HTML file."""

from collections.abc import Mapping, Sequence
from typing import Any

from ddpm_pairs.metrics.texture import chroma_noise
from ddpm_pairs.reports.html.browser import Shown, Stage, browser, spread, within_budget
from ddpm_pairs.reports.html.charts import Series, line_chart
from ddpm_pairs.reports.html.page import command, distance, number, page, paragraph, png_uri, section, settings, table
from ddpm_pairs.reports.texture import band_names
from ddpm_pairs.study.cells import Cell
from ddpm_pairs.study.figures import PAPER_PSNR
from ddpm_pairs.study.folder import PictureResult
from ddpm_pairs.study.recommendation import Recommendation
from ddpm_pairs.study.sets import RealSet

MOST = 24
"""Pictures in the browser."""

_READING = (
    "FID, fid192 and KID say how far the LQ patches lie from real ones: lower is nearer, and real against real is the "
    "least that can be asked for. fid192 sees texture; FID and KID see content too, which is that of the same HQ "
    "pictures everywhere here, and KID is fair to few pictures: it chooses. The PSNR of LQ against HQ says how much "
    "content is kept. Chroma noise is in 8-bit units; power is that of the luminance against real patches by octave, "
    "in cycles a pixel: 0 dB is the same, negative is too smooth."
)


def study_report(
    cells: Sequence[Cell],
    real: RealSet,
    chosen: Recommendation,
    results: Sequence[PictureResult],
    values: Mapping[str, Any],
    notes: Sequence[str],
) -> str:
    """The study as a page.

    Args:
        cells: All cells.
        real: What they were compared with.
        chosen: The recommendation.
        results: All pictures; some of them, evenly spread, are shown.
        values: Settings; ``degradations`` and ``ts`` are those of the results.
        notes: Sentences on what was left out.
    """
    mean = f"{cells[0].n} HQ pictures at {len(values['ts'])} t from {len(values['degradations'])} handcrafted starts"
    return page(
        "The t study",
        f"{mean}, compared with real LQ pictures on native patches of {values['patch']} px.",
        [
            section(
                "recommendation",
                "Recommendation",
                paragraph(f"{chosen.words[0].upper()}{chosen.words[1:]}.", "words"),
                *(paragraph(f"Warning: {warning}.", "warning") for warning in chosen.warnings),
                *(paragraph(f"{note}.", "faint") for note in notes),
                paragraph("To make pairs so, type:"),
                command(chosen.command),
            ),
            section("curves", "Curves over t", '<div class="charts">', *_charts(cells, real, chosen), "</div>"),
            section("cells", "Cells", _table(cells, real, chosen), paragraph(_READING, "faint"), settings(values)),
            _pictures(results, values["degradations"], values["ts"], chosen),
        ],
    )


def _charts(cells: Sequence[Cell], real: RealSet, chosen: Recommendation) -> list[str]:
    names = list(dict.fromkeys(cell.degradation for cell in cells))
    groups = [sorted((c for c in cells if c.degradation == name), key=lambda cell: cell.t) for name in names]
    x, mark = "t, steps walked back", ("recommended t", chosen.t)

    def curves(label: str, value: str, source: str = "scores", dashed: bool = False) -> list[Series]:
        found = []
        for colour, (name, own) in enumerate(zip(names, groups, strict=True)):
            points = tuple((c.t, getattr(c.scores if source == "scores" else c, value)) for c in own)
            found.append(Series(f"{name}{label}", points, colour, dashed))
        return found

    psnr = curves(", mean", "psnr", "cell") + curves(", median", "psnr_median", "cell", dashed=True)
    kid, fid, fid192 = (("real against real", value) for value in (real.floor.kid, real.floor.fid, real.floor.fid192))
    return [
        line_chart("KID", x, "KID", curves("", "kid"), kid, mark),
        line_chart("FID, 192-d (texture)", x, "fid192", curves("", "fid192"), fid192, mark, from_zero=True),
        line_chart("FID, 2048-d (content first)", x, "FID", curves("", "fid"), fid, mark),
        line_chart(
            "PSNR of LQ against HQ, dB", x, "PSNR", psnr, ("the paper's limit, faces of 512 px", PAPER_PSNR), mark
        ),
    ]


def _table(cells: Sequence[Cell], real: RealSet, chosen: Recommendation) -> str:
    bands = band_names(len(cells[0].power_gaps))
    head = ["start", "t", "fid192", "FID", "KID", "PSNR, mean", "PSNR, median", "chroma noise"]
    rows = [
        [
            *(cell.degradation, str(cell.t), distance(cell.scores.fid192), distance(cell.scores.fid)),
            *(number(cell.scores.kid, 4), number(cell.psnr), number(cell.psnr_median), number(cell.chroma_noise)),
            *(number(gap, 1, "+") for gap in cell.power_gaps),
        ]
        for cell in cells
    ]
    floor, chroma = real.floor, number(chroma_noise(real.patches.float() / 255))
    blank = [""] * len(bands)
    rows.append(
        [
            "real against real",
            "",
            distance(floor.fid192),
            distance(floor.fid),
            number(floor.kid, 4),
            "",
            "",
            chroma,
            *blank,
        ]
    )
    place = next(n for n, cell in enumerate(cells) if (cell.degradation, cell.t) == (chosen.degradation, chosen.t))
    caption = f"Every handcrafted start at every t, {cells[0].n} pictures a cell"
    return table(
        caption, [*head, *(f"power {band.replace('-', ' to ')}, dB" for band in bands)], rows, {place: "recommended"}
    )


def _pictures(
    results: Sequence[PictureResult], degradations: Sequence[str], ts: Sequence[int], chosen: Recommendation
) -> str:
    encoded = [_shown(results[i], ts) for i in spread(len(results), MOST)]
    kept = within_budget(encoded)
    height, width = results[0].patches.shape[-2:]
    return section(
        "pictures",
        "Pictures",
        paragraph(
            f"{len(kept)} of {len(results)} pictures, evenly spread: LQ patches of {width}x{height} px and the same "
            "place of HQ, every pixel a square. Choose what stands on the left, and walk along t on the right; the "
            "PSNR is that of the whole picture."
        ),
        browser(kept, degradations, degradations.index(chosen.degradation), 1 + ts.index(chosen.t)),
    )


def _shown(result: PictureResult, ts: Sequence[int]) -> Shown:
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
    return Shown(result.key, tuple(result.patches.shape[-2:]), rows)
