"""The parts that every HTML report is made of, as pure functions that return HTML."""

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from io import BytesIO
from typing import Any

from PIL import Image
from torch import Tensor

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""What the page may load: nothing but what it holds itself."""


def page(title: str, lead: str, sections: Sequence[str]) -> str:
    """A whole document with our style and script inside.

    Args:
        title: Plain text.
        lead: Plain text below the title.
        sections: HTML, see ``section``.
    """
    style, script = (files(__package__).joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p>{escape(lead)}</p>
</header>
<main>
{lines(sections)}
</main>
<script>
{script}</script>
</body>
</html>
"""


def section(name: str, heading: str, *parts: str) -> str:
    """A section of the page.

    Args:
        name: Its id, unique on the page.
        heading: Plain text.
        parts: HTML.
    """
    head = f'<section aria-labelledby="{escape(name)}">\n<h2 id="{escape(name)}">{escape(heading)}</h2>'
    return lines([head, *parts, "</section>"])


def lines(parts: Sequence[str]) -> str:
    """Parts of HTML below each other."""
    return "\n".join(parts)


def paragraph(text: str, kind: str = "") -> str:
    """Plain text as a paragraph; ``kind`` is a class of the style, such as ``faint`` or ``warning``."""
    look = f' class="{escape(kind)}"' if kind else ""
    return f"<p{look}>{escape(text)}</p>"


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], marked: Mapping[int, str] = {}) -> str:  # noqa: B006 - never changed
    """A table that scrolls inside its own container.

    Args:
        caption: Plain text.
        head: Names of the columns.
        rows: Plain text; the first of a row is its heading.
        marked: What is written beside the heading of some rows, by number; those rows are lifted out.
    """
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = []
    for place, (first, *rest) in enumerate(rows):
        look, badge = "", ""
        if place in marked:
            look, badge = ' class="marked"', f' <span class="badge">{escape(marked[place])}</span>'
        cells = "".join(f"<td>{escape(text)}</td>" for text in rest)
        body.append(f'<tr{look}><th scope="row">{escape(first)}{badge}</th>{cells}</tr>')
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}">\n<table>\n'
        f"<caption>{escape(caption)}</caption>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{lines(body)}\n</tbody>\n"
        "</table>\n</div>"
    )


def command(text: str) -> str:
    """A command to type, with a button that copies it; lines break between its words only."""
    words = " ".join(f"<span>{escape(word)}</span>" for word in text.split(" "))
    return (
        f'<div class="command"><pre><code>{words}</code></pre>\n'
        '<button type="button" data-copy>Copy</button><span role="status"></span></div>'
    )


def settings(values: Mapping[str, Any], unfolded: bool = False) -> str:
    """Settings by name, in a part that can be folded away."""
    body = lines([f"<dt>{escape(name)}</dt><dd>{escape(_plain(value))}</dd>" for name, value in values.items()])
    return f"<details{' open' * unfolded}>\n<summary>Settings</summary>\n<dl>\n{body}\n</dl>\n</details>"


def number(value: float | None, digits: int = 2, sign: str = "") -> str:
    """A number for a cell; a dash where there is none. ``sign`` is ``+`` for numbers that show theirs."""
    if value is None or math.isnan(value):
        return "–"
    return "∞" if math.isinf(value) else f"{value:{sign}.{digits}f}"


def distance(value: float | None) -> str:
    """A FID for a cell, with four digits that count: it may be 0.02 or 200."""
    return number(value) if value is None or not math.isfinite(value) else f"{value:#.4g}"


def png_uri(pixels: Tensor) -> str:
    """A uint8 (3, H, W) picture as a data URI of a lossless PNG."""
    buffer = BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).save(buffer, "PNG", compress_level=9)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)
