"""Plot and grid of the t study."""

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from ddpm_pairs.files import atomic_file
from ddpm_pairs.reports.contact_sheet import FAINT, GAP, INK, MARGIN, PAPER, write_line
from ddpm_pairs.study.cells import Cell
from ddpm_pairs.study.folder import PictureResult
from ddpm_pairs.study.recommendation import Recommendation
from ddpm_pairs.study.sets import RealSet

PAPER_PSNR = 24.0
"""The least PSNR that Yang et al. allow, for faces of 512 px; natural x4 pairs seldom reach it."""

GRID_ROWS, GRID_TILE = 6, 192
_LABEL = 22


def save_plot(path: Path, cells: Sequence[Cell], real: RealSet, chosen: Recommendation) -> None:
    """Draw FID, fid192 and KID over t above, PSNR over t below, a curve a degradation (Yang et al., Fig. 4)."""
    figure = Figure(figsize=(10.5, 13), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(4, 1, sharex=True)
    names = list(dict.fromkeys(cell.degradation for cell in cells))
    for number, name in enumerate(names):
        own = sorted((cell for cell in cells if cell.degradation == name), key=lambda cell: cell.t)
        ts, colour = [cell.t for cell in own], f"C{number}"
        axes[0].plot(ts, [cell.scores.fid for cell in own], "o-", color=colour, label=name)
        axes[1].plot(ts, [cell.scores.fid192 for cell in own], "o-", color=colour, label=name)
        axes[2].plot(ts, [cell.scores.kid for cell in own], "o-", color=colour, label=name)
        axes[3].plot(ts, [cell.psnr for cell in own], "o-", color=colour, label=f"{name}, mean")
        axes[3].plot(ts, [cell.psnr_median for cell in own], "o--", color=colour, alpha=0.6, label=f"{name}, median")
    floors = (("FID, 2048-d", real.floor.fid), ("FID, 192-d", real.floor.fid192), ("KID, 2048-d", real.floor.kid))
    for axis, (label, floor) in zip(axes[:3], floors, strict=True):
        axis.axhline(floor, color="0.5", linestyle=":", label="real against real")
        axis.set_ylabel(f"{label} (lower is nearer)")
    axes[1].set_ylim(bottom=0)  # FID stays far above it for so few pictures, so that its changes would not be seen
    axes[3].axhline(PAPER_PSNR, color="0.5", linestyle=":", label="the paper's 24 dB (faces of 512 px)")
    axes[3].set_ylabel("PSNR of LQ against HQ, dB")
    axes[3].set_xlabel("t, steps walked back")
    for axis in axes:
        axis.axvline(chosen.t, color="0.8", zorder=0)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))  # beside the curves, which may be many
    axes[0].set_title(f"{cells[0].n} pictures a cell; recommended: {chosen.degradation}, t = {chosen.t}")
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=110)


def save_grid(path: Path, results: PictureResult, degradations: Sequence[str], ts: Sequence[int]) -> None:
    """Draw one row a picture and degradation: HQ, initial LQ, then LQ at each t (Yang et al., Fig. 5).

    Args:
        path: File to write.
        results: All pictures together; some of them, evenly spread, are shown.
        degradations: Names of the degradations.
        ts: The steps, 0 first.
    """
    count = len(results.patches)
    shown = sorted({round(i * (count - 1) / max(GRID_ROWS - 1, 1)) for i in range(min(GRID_ROWS, count))})
    heads = ["HQ", "initial LQ", *(f"t = {t}" for t in ts if t > 0)]
    rows = [(d, i) for i in shown for d in range(len(degradations))]
    step = GRID_TILE + GAP
    size = (2 * MARGIN + len(heads) * step - GAP, 2 * MARGIN + _LABEL + len(rows) * (step + _LABEL))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, head in enumerate(heads):
        write_line(draw, (MARGIN + column * step, MARGIN - 4), head, 15, INK, GRID_TILE)
    for row, (d, i) in enumerate(rows):
        top = MARGIN + _LABEL + row * (step + _LABEL)
        for column, pixels in enumerate([results.hq[i], *results.patches[i, d]]):
            sheet.paste(_tile(pixels), (MARGIN + column * step, top))
            if column == 0:
                text = degradations[d]
            else:
                psnr = results.psnr[i, d, column - 1].item()
                text = f"{psnr:.1f} dB"
            write_line(draw, (MARGIN + column * step, top + GRID_TILE + 2), text, 13, FAINT, GRID_TILE)
    with atomic_file(path) as file:
        sheet.save(file, "PNG")


def _tile(pixels: Tensor) -> Image.Image:
    """uint8 (3, S, S) enlarged by repeating pixels, or shrunk, to a tile."""
    mode = "nearest" if pixels.shape[-1] <= GRID_TILE else "area"
    scaled = F.interpolate(pixels[None].float(), size=(GRID_TILE, GRID_TILE), mode=mode)[0]
    return Image.fromarray(scaled.round().to(torch.uint8).permute(1, 2, 0).numpy())
