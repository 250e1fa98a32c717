"""Line charts as inline SVG, drawn by ourselves."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from ddpm_pairs.reports.html.page import lines

WIDTH, HEIGHT = 360, 250
"""Of a chart in its own units: about a phone's width, so that its text can be read there."""

LEFT, RIGHT, TOP, BOTTOM = 46, 338, 12, 206
"""Where the axes lie."""

COLOURS = 6
"""How many classes ``c0``, ``c1``... the style has."""

_SHAPES = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "M-3.6-3.6h7.2v7.2h-7.2z",
    "M0-5 4.8 3.8h-9.6z",
    "M0-5.2 5.2 0 0 5.2-5.2 0z",
)


@dataclass(frozen=True)
class Series:
    """A curve.

    Attributes:
        name: What the legend calls it.
        points: (x, y); where y is not finite the curve has a gap.
        colour: Number of its colour and of its markers' shape.
        dashed: Whether its line is dashed.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    colour: int
    dashed: bool = False


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round values that cover low to high: a step of 1, 2 or 5 times a power of ten, about ``wanted`` of them."""
    if not high > low:
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [count * step for count in range(first, last + 1)]


def line_chart(
    title: str,
    x_label: str,
    y_label: str,
    series: Sequence[Series],
    level: tuple[str, float] | None = None,
    mark: tuple[str, float] | None = None,
    from_zero: bool = False,
) -> str:
    """A figure with curves over x, axes, ticks and a legend; each point tells its values when pointed at.

    Args:
        title: What stands above.
        x_label: Below the horizontal axis.
        y_label: Above the vertical axis.
        series: The curves; at least one finite point among them.
        level: Name and y of a horizontal line.
        mark: Name and x of a vertical line.
        from_zero: Whether the vertical axis begins at 0.
    """
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points if math.isfinite(y)]
    ys += [0.0] * from_zero + ([] if level is None else [level[1]])
    x_ticks, y_ticks = ticks(min(xs), max(xs)), ticks(min(ys), max(ys))

    def across(x: float) -> float:
        return LEFT + (RIGHT - LEFT) * (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])

    def down(y: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])

    drawn = _axes(x_ticks, y_ticks, across, down)
    drawn.append(f'<text class="name" x="{(LEFT + RIGHT) / 2}" y="{HEIGHT - 6}">{escape(x_label)}</text>')
    legend = [_entry(one.name, _look(one), _SHAPES[one.colour % len(_SHAPES)]) for one in series]
    if mark is not None:
        drawn.append(f'<path class="mark" d="M{across(mark[1]):.1f} {TOP}V{BOTTOM}"/>')
        legend.append(_entry(mark[0], "mark", ""))
    if level is not None:
        drawn.append(f'<path class="level" d="M{LEFT} {down(level[1]):.1f}H{RIGHT}"/>')
        legend.append(_entry(f"{level[0]}, {level[1]:.4g}", "level", ""))
    drawn += [
        _curve(one, [(across(x), down(y) if math.isfinite(y) else None) for x, y in one.points], x_label)
        for one in series
    ]
    label = escape(f"{title}: {y_label} over {x_label}")
    return (
        f'<figure class="chart">\n<figcaption>{escape(title)}</figcaption>\n'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">\n{lines(drawn)}\n</svg>\n'
        f'<ul class="legend" aria-label="Legend">\n{lines(legend)}\n</ul>\n</figure>'
    )


def _axes(
    x_ticks: list[float], y_ticks: list[float], across: Callable[[float], float], down: Callable[[float], float]
) -> list[str]:
    drawn = []
    for y in y_ticks:
        drawn.append(f'<path class="grid" d="M{LEFT} {down(y):.1f}H{RIGHT}"/>')
        drawn.append(f'<text class="y" x="{LEFT - 7}" y="{down(y) + 4:.1f}">{_short(y)}</text>')
    for x in x_ticks:
        drawn.append(f'<path class="tick" d="M{across(x):.1f} {BOTTOM}v5"/>')
        drawn.append(f'<text class="x" x="{across(x):.1f}" y="{BOTTOM + 19}">{_short(x)}</text>')
    drawn.append(f'<path class="axis" d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}"/>')
    return drawn


def _curve(one: Series, places: list[tuple[float, float | None]], x_label: str) -> str:
    path, pen, markers = "", "M", []
    shape, unit = _SHAPES[one.colour % len(_SHAPES)], x_label.partition(",")[0]
    for (x, y), value in zip(places, one.points, strict=True):
        if y is None:
            pen = "M"
            continue
        path += f"{pen}{x:.1f} {y:.1f}"
        pen = "L"
        said = escape(f"{one.name}, {unit} = {_short(value[0])}: {value[1]:.4g}")
        markers.append(
            f'<g transform="translate({x:.1f} {y:.1f})"><circle class="target" r="11"/>'
            f'<path class="marker" d="{shape}"/><title>{said}</title></g>'
        )
    return f'<g class="{_look(one)}"><path class="curve" d="{path}"/>\n{lines(markers)}</g>'


def _entry(name: str, look: str, shape: str) -> str:
    marker = f'<path class="marker" transform="translate(13 6)" d="{shape}"/>' if shape else ""
    line = "M13 0V12" if look == "mark" else "M0 6H26"
    return (
        f'<li><svg class="{look}" viewBox="0 0 26 12" width="26" height="12" aria-hidden="true">'
        f'<path class="curve" d="{line}"/>{marker}</svg>{escape(name)}</li>'
    )


def _look(one: Series) -> str:
    return f"c{one.colour % COLOURS}{' dashed' if one.dashed else ''}"


def _short(value: float) -> str:
    return f"{value:.6g}" if abs(value) >= 1e-9 else "0"
