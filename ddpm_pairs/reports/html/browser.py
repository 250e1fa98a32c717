"""The picture browser: two stages of a picture on either side of a divider, and a slider along the stages."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil

from ddpm_pairs.reports.html.page import lines

MAX_BYTES = 4_500_000
"""Of all pictures of a browser as they stand in the page; noise cannot be compressed, so fewer are shown then."""

MAX_TICKS = 10


@dataclass(frozen=True)
class Stage:
    """One picture of a row of stages.

    Attributes:
        tick: A word or number of a few letters for the slider.
        name: Its name.
        note: What is known about it, such as its PSNR; may be empty.
        uri: The picture, see ``ddpm_pairs.reports.html.page.png_uri``.
    """

    tick: str
    name: str
    note: str
    uri: str


@dataclass(frozen=True)
class Shown:
    """A picture in the browser.

    Attributes:
        name: What it is called in the list, such as its key.
        size: (height, width) of the part that is shown, only their ratio counts.
        rows: A row of stages for each start; all rows of a browser have the same stages.
        group: Heading in the list; empty for none.
    """

    name: str
    size: tuple[int, int]
    rows: tuple[tuple[Stage, ...], ...]
    group: str = ""


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` of the numbers 0 to count - 1, evenly spread, with the first and the last."""
    if count <= most:
        return list(range(count))
    return [0] if most == 1 else [round(i * (count - 1) / (most - 1)) for i in range(most)]


def within_budget(pictures: Sequence[Shown], budget: int = MAX_BYTES) -> list[Shown]:
    """As many pictures as fit into ``budget`` bytes of data URIs, evenly spread; one at least."""
    sizes = [sum(map(len, _uris([picture]))) for picture in pictures]
    for most in range(len(pictures), 1, -1):
        kept = spread(len(pictures), most)
        if sum(sizes[i] for i in kept) <= budget:
            return [pictures[i] for i in kept]
    return list(pictures[:1])


def browser(pictures: Sequence[Shown], starts: Sequence[str], row: int, stage: int) -> str:
    """The browser as HTML; its script takes what it shows from the JSON inside.

    Args:
        pictures: At least one.
        starts: Name of each row of stages.
        row: Row shown first.
        stage: Stage shown first on the right of the divider; on the left the first one is.
    """
    first = pictures[0]
    stages = first.rows[row]
    uris = _uris(pictures)
    places = {uri: place for place, uri in enumerate(uris)}
    data = {
        "images": uris,
        "pictures": [
            {
                "name": one.name,
                "size": one.size,
                "rows": [[[stage.name, stage.note, places[stage.uri]] for stage in line] for line in one.rows],
            }
            for one in pictures
        ],
    }
    controls = [_choice("picture", "Picture", _options(pictures), _STEPS)]
    if len(starts) > 1:
        controls.append(_choice("row", "Handcrafted start", [_option(n, name, row) for n, name in enumerate(starts)]))
    if len(stages) > 2:
        names = [_option(n, one.name, 0) for n, one in enumerate(stages)]
        controls.append(_choice("before", "On the left", names))
    height, width = first.size
    left, right = stages[0], stages[stage]
    return f"""<div class="browser" data-browser data-row="{row}" data-stage="{stage}">
<figure>
<div class="view" style="aspect-ratio: {width} / {height}">
<img data-part="right" src="{right.uri}" alt="{escape(right.name)}">
<img data-part="left" src="{left.uri}" alt="{escape(left.name)}">
<span class="tag" data-part="left-tag">{escape(left.name)}</span>
<span class="tag" data-part="right-tag">{escape(right.name)}</span>
<input type="range" class="divider" data-part="divider" min="0" max="100" value="50" aria-label="Divider">
<span class="handle" aria-hidden="true"></span>
</div>
{_slider(stages, stage) if len(stages) > 2 else ""}
<figcaption data-part="caption">{escape(first.name)}</figcaption>
</figure>
<form class="controls" autocomplete="off">
{lines(controls)}
<p class="faint">Drag the divider, or focus it and press the arrow keys.</p>
<noscript><p class="warning">The browser needs JavaScript, which is switched off.</p></noscript>
</form>
<script type="application/json">{_json(data)}</script>
</div>"""


_STEPS = (
    '<button type="button" data-step="-1" aria-label="Previous picture">‹</button>'
    '<button type="button" data-step="1" aria-label="Next picture">›</button>'
)


def _choice(part: str, label: str, options: Sequence[str], beside: str = "") -> str:
    return (
        f'<div class="choice"><label for="{part}">{escape(label)}</label>\n<div class="line">'
        f'<select id="{part}" data-part="{part}">\n{lines(options)}\n</select>{beside}</div></div>'
    )


def _options(pictures: Sequence[Shown]) -> list[str]:
    listed, group = [], ""
    for place, one in enumerate(pictures):
        if one.group != group:
            listed += ["</optgroup>"] * bool(group) + [f'<optgroup label="{escape(one.group)}">']
            group = one.group
        listed.append(_option(place, one.name, 0))
    return listed + ["</optgroup>"] * bool(group)


def _option(value: int, name: str, chosen: int) -> str:
    return f'<option value="{value}"{" selected" * (value == chosen)}>{escape(name)}</option>'


def _slider(stages: Sequence[Stage], stage: int) -> str:
    last = len(stages) - 1
    every = ceil(len(stages) / MAX_TICKS)
    labels = "".join(
        f'<span style="--at: {place / last:.4f}">{escape(one.tick)}</span>'
        for place, one in enumerate(stages)
        if place % every == 0 or place == last
    )
    return (
        '<div class="choice walk"><label for="stage">On the right:</label> '
        f'<span data-part="stage-name">{escape(stages[stage].name)}</span>\n'
        f'<input type="range" id="stage" data-part="stage" min="0" max="{last}" value="{stage}" '
        f'aria-valuetext="{escape(stages[stage].name)}">\n<div class="ticks" aria-hidden="true">{labels}</div></div>'
    )


def _uris(pictures: Sequence[Shown]) -> list[str]:
    return list(dict.fromkeys(stage.uri for one in pictures for row in one.rows for stage in row))


def _json(data: object) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
