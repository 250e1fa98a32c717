"""The sheet of ``ddpm-pairs preview``: one row per image, HQ first, then random degradations with their parameters."""

from dataclasses import dataclass

from PIL import Image, ImageDraw
from torch import Tensor

from ddpm_pairs.data.high_quality import Work
from ddpm_pairs.reports.contact_sheet import FAINT, GAP, INK, MARGIN, PAPER, TILE, font_of, shown_part, tile, write_line
from ddpm_pairs.reports.preview.parameters import phrases

_TITLE, _TEXT, _LINE = 14, 13, 17  # heights in sheet pixels
_MOST_LINES = 14


@dataclass(frozen=True)
class Row:
    """One image of the sheet.

    Attributes:
        key: The image's key.
        pairs: Its pairs, made as ``predict`` would; the first one has the image's own key.
    """

    key: str
    pairs: tuple[Work, ...]


def draw_preview(rows: list[Row], heading: str, names: tuple[str, ...] = ()) -> Image.Image:
    """Draw the sheet.

    Args:
        rows: At least one, all with equally many pairs.
        heading: Title of the sheet.
        names: The degradation of each column, written above its parameters; empty if all columns have the same.
    """
    above = [[name] for name in names] or [[] for _ in rows[0].pairs]
    captions = [
        [_facts(row), *(name + _parameters(pair) for name, pair in zip(above, row.pairs, strict=True))] for row in rows
    ]
    depths = [_TITLE + 10 + _LINE * max(map(len, lines)) + GAP for lines in captions]
    heights = [_shown_size(row)[1] + depth for row, depth in zip(rows, depths, strict=True)]
    width = 2 * MARGIN + (len(rows[0].pairs) + 1) * (TILE + GAP) - GAP
    top = MARGIN + 30
    sheet = Image.new("RGB", (width, top + sum(heights) + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    write_line(draw, (MARGIN, MARGIN - 6), heading, 18, INK, width - 2 * MARGIN)
    for row, lines, height in zip(rows, captions, heights, strict=True):
        _draw_row(sheet, draw, row, lines, top)
        top += height
    return sheet


def _draw_row(sheet: Image.Image, draw: ImageDraw.ImageDraw, row: Row, captions: list[list[str]], top: int) -> None:
    """Draw the images of a row with a title and a caption below each."""
    size, pictures = _shown_size(row), [_image(row.pairs[0].hq), *(_image(pair.lq) for pair in row.pairs)]
    titles = [row.key, *(_decibels(pair.record["psnr"]) for pair in row.pairs)]
    box, _ = shown_part(pictures[-1].size)
    for n, (picture, title, lines) in enumerate(zip(pictures, titles, captions, strict=True)):
        left = MARGIN + n * (TILE + GAP)
        sheet.paste(tile(picture, box, pictures[-1].size, size), (left, top))
        write_line(draw, (left, top + size[1] + 4), title, _TITLE, INK, TILE)
        for number, line in enumerate(lines):
            write_line(draw, (left, top + size[1] + 8 + _TITLE + number * _LINE), line, _TEXT, FAINT, TILE)


def _facts(row: Row) -> list[str]:
    """Return the caption of HQ."""
    hq, lq = ((picture.shape[2], picture.shape[1]) for picture in (row.pairs[0].hq, row.pairs[0].lq))
    (left, top, right, bottom), factor = shown_part(lq)
    shown = ["center shown"] if (right - left, bottom - top) != lq else []
    return [
        f"HQ {hq[0]}x{hq[1]}",
        f"LQ {lq[0]}x{lq[1]}, enlarged x{factor}" if factor > 1 else f"LQ {lq[0]}x{lq[1]}",
        *shown,
    ]


def _parameters(pair: Work) -> list[str]:
    """Return the caption of LQ: its parameters in lines as wide as an image, broken only between phrases."""
    lines: list[str] = []
    parameters = pair.record["degradation"]["parameters"]
    for phrase in phrases(parameters) or ["random by seed" if parameters else "nothing random"]:
        joined = f"{lines[-1]}, {phrase}" if lines else phrase
        a_stage = phrase[0].isdigit()
        if lines and not a_stage and font_of(_TEXT).getlength(joined + ",") <= TILE:
            lines[-1] = joined
        else:
            lines[-1:] = [f"{lines[-1]},", phrase] if lines else [phrase]
    return lines if len(lines) <= _MOST_LINES else [*lines[: _MOST_LINES - 1], "…"]


def _shown_size(row: Row) -> tuple[int, int]:
    lq = row.pairs[0].lq
    (left, top, right, bottom), factor = shown_part((lq.shape[2], lq.shape[1]))
    return (right - left) * factor, (bottom - top) * factor


def _image(picture: Tensor) -> Image.Image:
    return Image.fromarray(picture.permute(1, 2, 0).numpy())


def _decibels(value: float | None) -> str:
    return "equal to HQ" if value is None else f"{value:.1f} dB"
