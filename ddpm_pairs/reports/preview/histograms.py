"""Histograms of random degradation parameters, many small ones on one sheet."""

from collections import Counter
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ddpm_pairs.files import atomic_file
from ddpm_pairs.reports.preview.parameters import Value

ACROSS = 5
BINS = 30
_INK, _BAR = "#191919", "#4c78a8"
_FEW = 101  # up to this many different integers get a bar each


def save_histograms(path: Path, columns: dict[str, tuple[list[Value], float]], heading: str) -> None:
    """Draw one histogram per parameter and write the sheet atomically.

    Args:
        path: The PNG to write.
        columns: See ``ddpm_pairs.reports.preview.parameters.columns``; at least one.
        heading: Title of the sheet.
    """
    across = min(len(columns), ACROSS)
    down = -(-len(columns) // across)
    figure = Figure(figsize=(3.0 * across, 2.1 * down + 0.6), dpi=100, layout="constrained")
    figure.suptitle(heading, fontsize=12, color=_INK)
    grid = figure.subplots(down, across, squeeze=False).flatten()
    for axes, (name, (values, share)) in zip(grid, columns.items(), strict=False):
        _draw(axes, values)
        axes.set_title(_title(name, share), fontsize=8, color=_INK)
    for axes in grid[len(columns) :]:
        axes.set_axis_off()
    with atomic_file(path) as file:
        figure.savefig(file, format="png")


def _draw(axes: Axes, values: list[Value]) -> None:
    axes.tick_params(labelsize=7, colors=_INK)
    axes.spines[["top", "right"]].set_visible(False)
    different = set(values)
    if any(isinstance(value, str) for value in different) or len(different) <= 2:
        counted = Counter(str(value) if isinstance(value, str) else f"{value:.4g}" for value in values)
        names = sorted(counted)
        axes.barh(names, [100 * counted[name] / len(values) for name in names], color=_BAR)
        axes.invert_yaxis()
        axes.xaxis.set_major_formatter("{x:.0f}%")
        axes.set_ylim(max(len(names), 3) - 0.5, -0.5)
        return
    axes.set_yticks([])
    if len(different) <= _FEW and all(float(value).is_integer() for value in different):
        counted = Counter(values)
        axes.bar(list(counted), list(counted.values()), color=_BAR, width=0.8)
        return
    axes.hist(values, bins=BINS, color=_BAR)


def _title(name: str, share: float) -> str:
    """Return the name, in two lines if it is long, and the share of draws with the parameter unless all have it."""
    words = name.split(" ")
    half = len(words) // 2
    text = name if len(name) <= 32 else f"{' '.join(words[:half])}\n{' '.join(words[half:])}"
    return text if share == 1 else f"{text}\nin {100 * share:.0f}% of draws"
