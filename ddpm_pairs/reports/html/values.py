"""What templates show, as plain values: tables, formatted numbers and images as data URIs."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO

from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        caption: What the table shows.
        head: Names of the columns.
        rows: Text of the cells; the first cell of a row is its heading.
        badges: Text next to the heading of some rows, by row number; these rows are highlighted.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    badges: Mapping[int, str] = field(default_factory=dict)


def number(value: float | None, digits: int = 2, sign: str = "") -> str:
    """Format a number for a cell.

    Args:
        value: The number; ``None`` and NaN become a dash.
        digits: Decimal places.
        sign: ``+`` to show the sign of positive numbers too.
    """
    if value is None or math.isnan(value):
        return "–"
    return "∞" if math.isinf(value) else f"{value:{sign}.{digits}f}"


def distance(value: float | None) -> str:
    """Format a FID for a cell with four significant digits, since it may be 0.02 or 200."""
    return number(value) if value is None or not math.isfinite(value) else f"{value:#.4g}"


def as_text(values: Mapping[str, object]) -> dict[str, str]:
    """Format settings: lists separated by commas, ``None`` as "none"."""
    return {name: _plain(value) for name, value in values.items()}


def png_uri(image: Tensor) -> str:
    """Encode an image as the data URI of a lossless PNG.

    Args:
        image: uint8 (3, H, W).
    """
    buffer = BytesIO()
    Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(buffer, "PNG", compress_level=9)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)
