"""Contact sheets: images in a grid with captions, drawn with Pillow; that of a pairs folder, and those of others."""

import math
import warnings
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ddpm_pairs.files import write_atomically
from ddpm_pairs.pairset.folder import joined_at
from ddpm_pairs.pairset.records import KINDS, is_rejected, recorded_psnr
from ddpm_pairs.synthesis.generator import PairGenerator

SHEET = "contact_sheet.png"
PAIRS_SHOWN = 12
HEADINGS = ("HQ", "initial LQ", "LQ")

TILE = 256
"""Side in sheet pixels of the square that an image is shown in."""

MAX_BYTES = 3_000_000
"""A sheet with a larger file is drawn again with fewer rows."""

GAP, MARGIN = 8, 24
INK, FAINT, PAPER = (25, 25, 25), (110, 110, 110), (255, 255, 255)
_CAPTION, _BLANK = 56, (236, 236, 236)


def write_contact_sheet(root: Path, pairs: int, generator: PairGenerator) -> None:
    """Show up to 12 pairs, evenly spaced in the sorted keys: HQ, initial LQ, LQ.

    The initial LQ is computed again; it is left blank for pairs made with another degradation than the generator's.

    Args:
        root: The pairs folder of a run that has ended.
        pairs: Number of pairs in it, at least 1.
        generator: The generator of the run, on the device it ran on.
    """
    records = joined_at(root, spread(pairs, PAIRS_SHOWN))
    opened = [(record, [_open(root / record[kind]) for kind in KINDS]) for record in records]
    if damaged := [record["key"] for record, pair in opened if None in pair]:
        advice = f"run 'ddpm-pairs verify {root} --fix'"
        warnings.warn(f"{root}: an image of the pair {damaged[0]!r} is damaged; {advice}", stacklevel=2)
    opened = [one for one in opened if None not in one[1]]
    if not opened:
        return
    records, images = zip(*opened, strict=True)
    hqs = [torch.from_numpy(np.array(hq)).permute(2, 0, 1) for hq, _ in images]
    made = generator.initial_lqs(hqs, records)
    initial = [None if one is None else Image.fromarray(one.permute(1, 2, 0).numpy()) for one in made]
    entries = [
        Entry((hq, middle, lq), record["key"], _facts(record, hq, lq))
        for record, (hq, lq), middle in zip(records, images, initial, strict=True)
    ]
    heading = f"{root.resolve().name}: {pairs} pairs, {generator.start.name}, scale {generator.scale}"
    save_sheet(root / SHEET, entries, HEADINGS, heading)


def _facts(record: dict[str, Any], hq: Image.Image, lq: Image.Image) -> str:
    """The text below a pair; lines of other origin may lack any part of it."""
    psnr, initial, rejected = recorded_psnr(record), recorded_psnr(record, "psnr_initial"), is_rejected(record)
    facts = [f"t {record['t']}"] if "t" in record else []
    if psnr is not None:
        facts.append(_decibels(psnr) + ("" if initial is None else f" (initial {_decibels(initial)})"))
    facts.append(f"HQ {hq.width}x{hq.height}, LQ {lq.width}x{lq.height}")
    if rejected:
        facts.append("not accepted")
    return "   ".join(facts)


def _decibels(value: float) -> str:
    return "equal" if value == math.inf else f"{value:.1f} dB"


def _open(path: Path) -> Image.Image | None:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return image.convert("RGB")
    except Exception:  # decoders raise many types of errors on damaged files
        return None


@dataclass(frozen=True)
class Entry:
    """One entry of a sheet: images side by side with two lines of text below.

    Attributes:
        pictures: RGB images of the same content at any sizes; ``None`` leaves a blank. The last one decides how much is
            shown: it is enlarged by an integer factor with square pixels, so its noise is visible, and the others are
            resized to match.
        title: First line.
        text: Second line; a note follows it if only the center of the image is shown.
    """

    pictures: tuple[Image.Image | None, ...]
    title: str
    text: str


def spread(count: int, most: int) -> list[int]:
    """Choose evenly spaced indices, always including the first and the last.

    Args:
        count: Number of items.
        most: Maximum number of indices, at least 1.

    Returns:
        At most ``most`` of the numbers 0 to ``count - 1``, in order.
    """
    if count <= most:
        return list(range(count))
    return [0] if most == 1 else [round(i * (count - 1) / (most - 1)) for i in range(most)]


def shown_part(size: tuple[int, int]) -> tuple[tuple[int, int, int, int], int]:
    """Choose which part of an LQ image to show, and how much to enlarge it.

    Images of up to 128 px are shown whole, enlarged to 128 to 256 px. Larger ones are cropped to the center: 256 px at
    their own size, or 128 px, doubled, if they are smaller than 256 px.

    Args:
        size: (width, height) in pixels.

    Returns:
        The box (left, top, right, bottom) and the integer factor.
    """
    longest = max(size)
    limit = TILE if longest >= TILE else min(longest, TILE // 2)
    width, height = (min(side, limit) for side in size)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return (left, top, left + width, top + height), TILE // limit


def draw_sheet(entries: list[Entry], headings: tuple[str, ...], heading: str) -> Image.Image:
    """Draw a sheet with two entries per row.

    Args:
        entries: At least one, each with as many images as there are headings.
        headings: Title of each column of images.
        heading: Title of the sheet.
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
    """Draw a sheet and write it atomically, as a PNG of at most ``MAX_BYTES``.

    Noise does not compress, so sheets of large images show fewer entries: every second, every fourth, and so on.

    Args:
        path: The PNG to write.
        entries: See ``draw_sheet``.
        headings: See ``draw_sheet``.
        heading: See ``draw_sheet``.
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
    """Draw one entry with its top left corner at ``corner``."""
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
    text = entry.text if box == (0, 0, *last.size) else f"{entry.text}   center shown"
    write_line(draw, (left, top + size[1] + 25), text, 15, FAINT, width)


def tile(
    picture: Image.Image, box: tuple[int, int, int, int], of: tuple[int, int], size: tuple[int, int]
) -> Image.Image:
    """Crop the part of an image that ``box`` marks on an image of size ``of``, resized to ``size``."""
    across, down = picture.width / of[0], picture.height / of[1]
    part = picture.crop(tuple(round(side * by) for side, by in zip(box, (across, down) * 2, strict=True)))
    return part.resize(size, Image.Resampling.LANCZOS if part.width > size[0] else Image.Resampling.NEAREST)


def write_line(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, size: int, color: tuple[int, int, int], width: int
) -> None:
    """Write one line, shortened in the middle if it is too long, because the end of a key is worth keeping."""
    font = font_of(size)
    keep, shown = len(text), text
    while font.getlength(shown) > width and keep > 4:
        keep -= 1
        shown = f"{text[: keep // 3]}…{text[len(text) - (keep - keep // 3) :]}"
    draw.text(corner, shown, fill=color, font=font)


@lru_cache
def font_of(size: int) -> ImageFont.FreeTypeFont:
    """Return the font of all sheets at a size in pixels; it covers more alphabets than Pillow's default."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
