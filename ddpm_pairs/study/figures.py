"""Plot and image grid of the t study."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
import torch
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import offset_copy
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from ddpm_pairs.files import atomic_file
from ddpm_pairs.reports.contact_sheet import FAINT, GAP, INK, MARGIN, PAPER, spread, write_line
from ddpm_pairs.reports.html.svg import PALETTE, inline_svg
from ddpm_pairs.study.cells import Cell
from ddpm_pairs.study.folder import PictureResult
from ddpm_pairs.study.recommendation import Recommendation
from ddpm_pairs.study.sets import RealSet

PAPER_PSNR = 24.0
"""Minimum PSNR that Yang et al. allow for faces of 512 px; natural x4 pairs seldom reach it."""

PANEL_WIDTH, AXES_HEIGHT, LEGEND_LINE = 5.0, 3.5, 0.21
"""Sizes in inches; text of 10 pt stays readable on a phone, where a plot is 4 inches wide or less."""

GRID_ROWS, GRID_TILE = 6, 192
_LABEL = 22
_COLORS, _MARKERS = ("c0", "c1", "c2", "c3", "c4", "c5"), "os^D"
_SHORT_NAME, _LONGEST_NAME = 16, 40  # short names leave room for two columns in the legend


@dataclass(frozen=True)
class Curve:
    """One curve of a panel.

    Attributes:
        name: Name of the degradation.
        color: Number of its color and marker.
        ts: Steps.
        values: One per step; values that are not finite are not drawn.
        median: Whether the values are medians: the line is dashed, its markers are open, and the legend omits it.
    """

    name: str
    color: int
    ts: tuple[int, ...]
    values: tuple[float, ...]
    median: bool = False


@dataclass(frozen=True)
class Panel:
    """One score over t.

    Attributes:
        score: Short name, used in ids and tooltips.
        title: What the panel shows.
        curves: One or more per degradation.
        level: Name and value of a horizontal reference line.
        mark: The recommended t, a vertical line.
        from_zero: Whether the vertical axis starts at 0.
    """

    score: str
    title: str
    curves: tuple[Curve, ...]
    level: tuple[str, float]
    mark: int
    from_zero: bool = False


def panels_of(cells: Sequence[Cell], real: RealSet, chosen: Recommendation) -> list[Panel]:
    """Arrange the cells as KID, fid192, FID and PSNR over t, one curve per degradation (Yang et al., Fig. 4)."""
    names = list(dict.fromkeys(cell.degradation for cell in cells))
    rows = [sorted((cell for cell in cells if cell.degradation == name), key=lambda cell: cell.t) for name in names]

    def curves(values: list[list[float]], median: bool = False) -> tuple[Curve, ...]:
        return tuple(
            Curve(short_name(name), number, tuple(cell.t for cell in row), tuple(own), median)
            for number, (name, row, own) in enumerate(zip(names, rows, values, strict=True))
        )

    kid, fid192, fid = (
        curves([[getattr(cell.scores, score) for cell in row] for row in rows]) for score in ("kid", "fid192", "fid")
    )
    psnr = curves([[cell.psnr for cell in row] for row in rows])
    psnr += curves([[cell.psnr_median for cell in row] for row in rows], median=True)
    floor, same = real.floor, "real vs. real"
    # FID stays far above its floor for few images, so an axis from 0 would hide its changes; fid192 does not.
    return [
        Panel("KID", "KID (lower is closer)", kid, (same, floor.kid), chosen.t),
        Panel("fid192", "FID, 192-d: texture (lower is closer)", fid192, (same, floor.fid192), chosen.t, True),
        Panel("FID", "FID, 2048-d: mostly content (lower is closer)", fid, (same, floor.fid), chosen.t),
        Panel(
            "PSNR", "PSNR of LQ against HQ, dB (dashed: median)", psnr, ("paper's limit, faces", PAPER_PSNR), chosen.t
        ),
    ]


def save_plot(path: Path, cells: Sequence[Cell], real: RealSet, chosen: Recommendation) -> None:
    """Write ``ablation.png``: all panels."""
    panels = panels_of(cells, real, chosen)
    figure = _figure(2 * PANEL_WIDTH, 2 * _height(panels[0]) + 0.3)
    title = f"{cells[0].n} images per cell; recommended: {short_name(chosen.degradation)}, t = {chosen.t}"
    figure.suptitle(title, fontsize=12, color=PALETTE["ink"], parse_math=False)
    for axes, panel in zip(figure.subplots(2, 2).flat, panels, strict=True):
        _draw(axes, panel)
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=120)


def panels_as_svg(panels: Sequence[Panel]) -> list[Markup]:
    """Draw the panels of ``save_plot`` as one SVG each; pointing at a marker shows its value."""
    drawn = []
    for number, panel in enumerate(panels):
        figure, tips = panel_figure(panel)
        label = f"{panel.title} over t; all values are in the table below"
        drawn.append(inline_svg(figure, f"plot{number}", label, tips))
    return drawn


def panel_figure(panel: Panel) -> tuple[Figure, dict[str, list[str]]]:
    """Draw one panel as a figure.

    Returns:
        The figure, and the text of every marker under the ``gid`` of its line.
    """
    figure = _figure(PANEL_WIDTH, _height(panel))
    return figure, _draw(figure.subplots(), panel)


def _columns(panel: Panel) -> int:
    return 2 if max(len(curve.name) for curve in panel.curves) <= _SHORT_NAME else 1


def _height(panel: Panel) -> float:
    entries = sum(not curve.median for curve in panel.curves) + 2
    return AXES_HEIGHT + LEGEND_LINE * ceil(entries / _columns(panel))


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor=PALETTE["card"])
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    return figure


def _draw(axes: Axes, panel: Panel) -> dict[str, list[str]]:
    """Draw a panel, see ``panel_figure``."""
    ink, faint = PALETTE["ink"], PALETTE["faint"]
    handles, tips = [], {}
    for number, curve in enumerate(panel.curves):
        color, marker = PALETTE[_COLORS[curve.color % len(_COLORS)]], _MARKERS[curve.color % len(_MARKERS)]
        look = {"linestyle": "--", "markerfacecolor": PALETTE["card"]} if curve.median else {}
        points = [(t, value) for t, value in zip(curve.ts, curve.values, strict=True) if np.isfinite(value)]
        values = [value if np.isfinite(value) else np.nan for value in curve.values]
        (line,) = axes.plot(curve.ts, values, marker=marker, color=color, label=curve.name, gid=f"c{number}", **look)
        handles += [] if curve.median else [line]
        score = f"median {panel.score}" if curve.median else panel.score
        tips[f"c{number}"] = [f"{curve.name}, t = {t}: {score} {value:.4g}" for t, value in points]
    name, value = panel.level
    handles.append(axes.axhline(value, color=faint, linestyle=":", label=f"{name}, {value:.3g}"))
    handles.append(axes.axvline(panel.mark, color=PALETTE["accent"], linewidth=1, zorder=0, label="recommended t"))
    axes.set_title(panel.title, fontsize=11, color=ink, loc="left", fontweight="bold")
    axes.set_xlabel("t (diffusion steps)", fontsize=10, color=faint)
    axes.tick_params(labelsize=10, labelcolor=faint, color=faint)
    axes.grid(axis="y", color=PALETTE["line"])
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(faint)
    axes.set_facecolor("none")
    if panel.from_zero:
        axes.set_ylim(bottom=0)
    names = [handle.get_label() for handle in handles]
    below = offset_copy(axes.transAxes, axes.figure, 0, -0.48, units="inches")  # below ticks and axis label
    place = {
        "loc": "upper left",
        "bbox_to_anchor": (0, 0),
        "bbox_transform": below,
        "borderaxespad": 0,
        "frameon": False,
    }
    legend = axes.legend(handles, names, ncols=_columns(panel), fontsize=10, labelcolor=ink, **place)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return tips


def short_name(name: str) -> str:
    """Shorten the name of a degradation for a legend; it may be any text, such as the path of a weights file."""
    name = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    half = _LONGEST_NAME // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[: half - 1]}…{name[-half:]}"


def save_grid(path: Path, results: PictureResult, degradations: Sequence[str], ts: Sequence[int]) -> None:
    """Write ``grid.png``, one row per image and degradation: HQ, initial LQ, LQ at each t (Yang et al., Fig. 5).

    Args:
        path: File to write.
        results: All images stacked; up to ``GRID_ROWS``, evenly spaced, are shown.
        degradations: Names of the degradations.
        ts: The steps, 0 first.
    """
    heads = ["HQ", "initial LQ", *(f"t = {t}" for t in ts if t > 0)]
    rows = []
    for i in spread(len(results.patches), GRID_ROWS):
        for d, name in enumerate(degradations):
            notes = [name, *(f"{one:.1f} dB" for one in results.psnr[i, d].tolist())]
            rows.append(list(zip([results.hq[i], *results.patches[i, d]], notes, strict=True)))
    save_tiles(path, heads, rows)


def save_tiles(path: Path, heads: Sequence[str], rows: Sequence[Sequence[tuple[Tensor, str]]]) -> None:
    """Write rows of equally large images with a line of text below each, and a heading above each column.

    Args:
        path: PNG file to write.
        heads: Headings of the columns.
        rows: Images uint8 (3, S, S) with their texts, one per heading.
    """
    step = GRID_TILE + GAP
    size = (2 * MARGIN + len(heads) * step - GAP, 2 * MARGIN + _LABEL + len(rows) * (step + _LABEL))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, head in enumerate(heads):
        write_line(draw, (MARGIN + column * step, MARGIN - 4), head, 15, INK, GRID_TILE)
    for number, row in enumerate(rows):
        top = MARGIN + _LABEL + number * (step + _LABEL)
        for column, (pixels, text) in enumerate(row):
            sheet.paste(_tile(pixels), (MARGIN + column * step, top))
            write_line(draw, (MARGIN + column * step, top + GRID_TILE + 2), text, 13, FAINT, GRID_TILE)
    with atomic_file(path) as file:
        sheet.save(file, "PNG")


def _tile(pixels: Tensor) -> Image.Image:
    """Resize a uint8 (3, S, S) image to a tile: enlarge it by repeating pixels, or shrink it."""
    mode = "nearest" if pixels.shape[-1] <= GRID_TILE else "area"
    scaled = F.interpolate(pixels[None].float(), size=(GRID_TILE, GRID_TILE), mode=mode)[0]
    return Image.fromarray(scaled.round().to(torch.uint8).permute(1, 2, 0).numpy())
