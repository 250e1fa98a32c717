"""Plot and image grid of the table of starts."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ddpm_pairs.files import atomic_file
from ddpm_pairs.reports.contact_sheet import spread
from ddpm_pairs.reports.html.svg import PALETTE, inline_svg
from ddpm_pairs.study.figures import PANEL_WIDTH, save_tiles, short_name
from ddpm_pairs.study.module import Findings
from ddpm_pairs.study.sets import RealSet
from ddpm_pairs.study.starts.rows import Row

GRID_ROWS = 6
PANELS = {
    "kid": "KID (lower is closer)",
    "fid192": "FID, 192-d: texture",
    "fid": "FID, 2048-d: mostly content",
}


def save_start_plot(path: Path, rows: Sequence[Row], real: RealSet) -> None:
    """Write ``starts.png``: one line per degradation, from its own score (open) to that of the walk (filled)."""
    figure = _figure(2.6 * PANEL_WIDTH, rows)
    for axes, score in zip(figure.subplots(1, len(PANELS), sharey=True), PANELS, strict=True):
        handles = _draw(axes, rows, real, score)
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=10)
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=120)


def panels_as_svg(rows: Sequence[Row], real: RealSet) -> list[Markup]:
    """Draw the panels of ``save_start_plot`` as one SVG each."""
    drawn = []
    for score, title in PANELS.items():
        figure = _figure(PANEL_WIDTH, rows)
        handles = _draw(figure.subplots(), rows, real, score)
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=10)
        drawn.append(inline_svg(figure, score, f"{title} of every degradation; all values are in the table below"))
    return drawn


def _figure(width: float, rows: Sequence[Row]) -> Figure:
    names = {row.cell.degradation for row in rows}
    figure = Figure(figsize=(width, 1.6 + 0.42 * len(names)), layout="constrained", facecolor=PALETTE["card"])
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(wspace=0.04)
    return figure


def _draw(axes: Axes, rows: Sequence[Row], real: RealSet, score: str) -> list[Artist]:
    """Draw the panel of one score, and return the entries of the legend."""
    names = list(dict.fromkeys(row.cell.degradation for row in rows))
    ink, faint, card = PALETTE["ink"], PALETTE["faint"], PALETTE["card"]
    for place, name in enumerate(names):
        own = [row for row in rows if row.cell.degradation == name]
        values = [getattr(row.cell.scores, score) for row in own]
        axes.plot(values, [place] * len(values), color=PALETTE["line"], zorder=1)
        for row, value in zip(own, values, strict=True):
            color, face = (PALETTE["c1"],) * 2 if row.walked else (PALETTE["c0"], card)
            (marker,) = axes.plot(value, place, "o", markersize=8, color=color, markerfacecolor=face)
            marker.set_label("walked" if row.walked else "as it is")
            if row.walked:
                text = {"textcoords": "offset points", "fontsize": 9, "ha": "center", "color": faint}
                axes.annotate(f"t = {row.cell.t}", (value, place), (0, 7), **text)
    axes.axvline(getattr(real.floor, score), color=faint, linestyle=":", label="real vs. real")
    axes.set_title(PANELS[score], fontsize=11, loc="left", color=ink, fontweight="bold")
    axes.set_yticks(range(len(names)), [short_name(name) for name in names], parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(labelsize=10, labelcolor=ink, color=faint)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=PALETTE["line"])
    axes.set_axisbelow(True)
    axes.set_facecolor("none")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(faint)
    handles, labels = axes.get_legend_handles_labels()
    return list(dict(zip(labels, handles, strict=True)).values())


def save_start_grid(
    path: Path, rows: Sequence[Row], degradations: Sequence[str], ts: Sequence[int], found: Findings
) -> None:
    """Write ``starts_grid.png``, one row per image: HQ, the LQ of every row of the table, and a real LQ patch.

    Args:
        path: File to write.
        rows: The rows of the table.
        degradations: Names of the degradations, in the order of the results.
        ts: The steps, in the order of the results.
        found: The study's findings.
    """
    together, shown = found.together, spread(len(found.results), GRID_ROWS)
    places = [(degradations.index(row.cell.degradation), list(ts).index(row.cell.t)) for row in rows]
    tiles = []
    for number, i in enumerate(shown):
        line = [(together.hq[i], found.results[i].key)]
        line += [(together.patches[i, d, t], f"{together.psnr[i, d, t].item():.1f} dB") for d, t in places]
        tiles.append([*line, (found.real.patches[number], "another scene")])
    save_tiles(path, ["HQ", *(row.name for row in rows), "real LQ"], tiles)
