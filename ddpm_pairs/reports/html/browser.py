"""The image browser of HTML reports: two stages of an image on either side of a divider, a slider over the stages."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil
from typing import Any

from ddpm_pairs.reports.contact_sheet import spread

MAX_BYTES = 4_500_000
"""Limit for all data URIs of a browser; noise does not compress, so noisy images mean fewer items."""

MAX_TICKS = 10


@dataclass(frozen=True)
class Stage:
    """One image of a row of stages.

    Attributes:
        tick: A number or a short word for the slider.
        name: Its name.
        note: What is known about it, such as its PSNR; may be empty.
        uri: The image, see ``ddpm_pairs.reports.html.values.png_uri``.
    """

    tick: str
    name: str
    note: str
    uri: str


@dataclass(frozen=True)
class Item:
    """An entry of the browser's list.

    Attributes:
        name: Its name in the list, such as its key.
        size: (height, width) of the part that is shown; only their ratio matters.
        rows: One row of stages per initial degradation; all rows of a browser have the same stages.
        group: Heading in the list; empty for none.
    """

    name: str
    size: tuple[int, int]
    rows: tuple[tuple[Stage, ...], ...]
    group: str = ""


@dataclass(frozen=True)
class Browser:
    """What the template ``browser.html.j2`` shows.

    Attributes:
        items: At least one.
        starts: Name of each row of stages.
        row: Row shown first.
        stage: Stage shown first to the right of the divider; the first stage is on its left.
    """

    items: Sequence[Item]
    starts: Sequence[str]
    row: int
    stage: int

    @property
    def first(self) -> Item:
        """The item shown first."""
        return self.items[0]

    @property
    def stages(self) -> Sequence[Stage]:
        """The stages of the row shown first."""
        return self.first.rows[self.row]

    @property
    def left(self) -> Stage:
        """The stage shown first to the left of the divider."""
        return self.stages[0]

    @property
    def right(self) -> Stage:
        """The stage shown first to the right of the divider."""
        return self.stages[self.stage]

    @property
    def groups(self) -> list[tuple[str, list[tuple[int, str]]]]:
        """The list of items: headings, each with the numbers and names of its items."""
        numbered = groupby(enumerate(self.items), key=lambda one: one[1].group)
        return [(heading, [(number, item.name) for number, item in group]) for heading, group in numbered]

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """About ``MAX_TICKS`` labels of the slider and where they are on it, from 0 to 1."""
        last, every = len(self.stages) - 1, ceil(len(self.stages) / MAX_TICKS)
        places = [place for place in range(last + 1) if place % every == 0 or place == last]
        return [(place / last, self.stages[place].tick) for place in places]

    @property
    def data(self) -> dict[str, Any]:
        """What the script shows, as plain JSON values; an image used by several stages is there once."""
        uris = _uris(self.items)
        places = {uri: place for place, uri in enumerate(uris)}
        items = [
            {
                "name": item.name,
                "size": item.size,
                "rows": [[[stage.name, stage.note, places[stage.uri]] for stage in row] for row in item.rows],
            }
            for item in self.items
        ]
        return {"uris": uris, "items": items}


def within_budget(items: Sequence[Item], budget: int = MAX_BYTES) -> list[Item]:
    """Choose as many evenly spaced items as fit into ``budget`` bytes of data URIs, at least one."""
    sizes = [sum(map(len, _uris([item]))) for item in items]
    for most in range(len(items), 1, -1):
        kept = spread(len(items), most)
        if sum(sizes[i] for i in kept) <= budget:
            return [items[i] for i in kept]
    return list(items[:1])


def _uris(items: Sequence[Item]) -> list[str]:
    return list(dict.fromkeys(stage.uri for item in items for row in item.rows for stage in row))
