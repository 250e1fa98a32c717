"""Contact sheets: pictures in a grid with captions, drawn with Pillow."""

from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from ddpm_pairs.files import write_atomically

TILE = 256
"""Side of the square, in sheet pixels, that a picture is shown in."""

MAX_BYTES = 3_000_000
"""A sheet larger than this is drawn again with fewer rows."""

GAP, MARGIN = 8, 24
INK, FAINT, PAPER = (25, 25, 25), (110, 110, 110), (255, 255, 255)
_CAPTION, _BLANK = 56, (236, 236, 236)


@dataclass(frozen=True)
class Entry:
    """One entry of a sheet: some pictures side by side with two lines of text below.

    Attributes:
        pictures: RGB pictures of the same content at any sizes; ``None`` leaves the place blank. The last one decides
            how much is shown: it is enlarged by a whole factor, each pixel a square, so that its noise can be seen,
            and the others are brought to the same size.
        title: First line.
        text: Second line.
    """

    pictures: tuple[Image.Image | None, ...]
    title: str
    text: str


def shown_part(size: tuple[int, int]) -> tuple[tuple[int, int, int, int], int]:
    """Which part of an LQ picture is shown, and how much enlarged.

    Pictures up to 128 px are shown whole and enlarged to 128..256 px. Of larger ones the centre is shown, up to 256 px
    in its own pixels (only 128 px, doubled, of those under 256 px, which would else fill their place badly).

    Args:
        size: (width, height) in pixels.

    Returns:
        The box (left, top, right, bottom) and the whole factor.
    """
    longest = max(size)
    limit = TILE if longest >= TILE else min(longest, TILE // 2)
    width, height = (min(side, limit) for side in size)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return (left, top, left + width, top + height), TILE // limit


def draw_sheet(entries: list[Entry], headings: tuple[str, ...], heading: str) -> Image.Image:
    """Draw a sheet, two entries a row (one where there is only one).

    Args:
        entries: At least one, each with as many pictures as there are headings.
        headings: What stands over each column of pictures.
        heading: What stands over the sheet.
    """
    across = min(len(entries), 2)
    entry_width = len(headings) * (TILE + GAP) - GAP
    heights = [_tallest(entries[first : first + across]) for first in range(0, len(entries), across)]
    width = 2 * MARGIN + across * (entry_width + 3 * GAP) - 3 * GAP
    body = 2 * MARGIN + 40
    sheet = Image.new("RGB", (width, body + sum(heights) + len(heights) * (_CAPTION + GAP) + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    write_line(draw, (MARGIN, MARGIN - 6), heading, 18, INK, width - 2 * MARGIN)
    for column in range(across):
        for n, name in enumerate(headings):
            left = MARGIN + column * (entry_width + 3 * GAP) + n * (TILE + GAP)
            write_line(draw, (left, body - 30), name, 15, FAINT, TILE)
    top = body
    for row, height in enumerate(heights):
        for column, entry in enumerate(entries[row * across : (row + 1) * across]):
            left = MARGIN + column * (entry_width + 3 * GAP)
            _draw_entry(sheet, draw, entry, (left, top), entry_width)
        top += height + _CAPTION + GAP
    return sheet


def save_sheet(path: Path, entries: list[Entry], headings: tuple[str, ...], heading: str) -> None:
    """Draw a sheet and move it to its place whole, as a PNG of at most ``MAX_BYTES``.

    Noise cannot be compressed, so sheets of large pictures show fewer entries: every second, fourth, and so on.
    """
    every = 1
    while True:
        kept = entries[::every]
        buffer = BytesIO()
        draw_sheet(kept, headings, heading).save(buffer, "PNG", optimize=True)
        if buffer.tell() <= MAX_BYTES or len(kept) == 1:
            break
        every *= 2
    write_atomically(path, buffer.getvalue())


def _shown_size(entry: Entry) -> tuple[int, int]:
    (left, top, right, bottom), factor = shown_part(entry.pictures[-1].size)
    return (right - left) * factor, (bottom - top) * factor


def _tallest(entries: list[Entry]) -> int:
    return max(_shown_size(entry)[1] for entry in entries)


def _draw_entry(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, entry: Entry, corner: tuple[int, int], width: int
) -> None:
    """Draw one entry with its top left at ``corner``."""
    left, top = corner
    last = entry.pictures[-1]
    box, _ = shown_part(last.size)
    size = _shown_size(entry)
    for n, picture in enumerate(entry.pictures):
        place = (left + n * (TILE + GAP), top)
        if picture is None:
            draw.rectangle((*place, place[0] + size[0] - 1, place[1] + size[1] - 1), fill=_BLANK)
        else:
            sheet.paste(tile(picture, box, last.size, size), place)
    write_line(draw, (left, top + size[1] + 4), entry.title, 16, INK, width)
    write_line(draw, (left, top + size[1] + 25), entry.text, 15, FAINT, width)


def tile(
    picture: Image.Image, box: tuple[int, int, int, int], of: tuple[int, int], size: tuple[int, int]
) -> Image.Image:
    """The part of a picture that ``box`` marks on a picture of size ``of``, brought to ``size``."""
    across, down = picture.width / of[0], picture.height / of[1]
    part = picture.crop(tuple(round(side * by) for side, by in zip(box, (across, down) * 2, strict=True)))
    return part.resize(size, Image.Resampling.LANCZOS if part.width > size[0] else Image.Resampling.NEAREST)


def write_line(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, size: int, colour: tuple[int, int, int], width: int
) -> None:
    """One line, its middle left out where it is too long: the end of a key tells more than its folders."""
    font = font_of(size)
    keep, shown = len(text), text
    while font.getlength(shown) > width and keep > 4:
        keep -= 1
        shown = f"{text[: keep // 3]}…{text[len(text) - (keep - keep // 3) :]}"
    draw.text(corner, shown, fill=colour, font=font)


@lru_cache
def font_of(size: int) -> ImageFont.FreeTypeFont:
    """The font of all sheets at a size in pixels; it has most alphabets, unlike Pillow's own."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
