"""``ddpm-pairs dashboard``: create a W&B workspace that shows fits, t studies and pairs."""

import argparse
from dataclasses import dataclass
from typing import Any, Literal

from ddpm_pairs.errors import UserError

NAME = "ddpm_pairs"
SERIES = "wandb/lineseries/v0"
"""The chart type of ``wandb.plot.line_series``."""


@dataclass(frozen=True)
class Panel:
    """One panel as plain data.

    Attributes:
        kind: ``lines`` (values logged over time or t), ``series`` (a chart logged by the run), ``images``, ``table``
            or ``number``.
        title: Its heading.
        keys: What it shows. For ``lines``, a single key with ``.*`` is a pattern.
        x: Horizontal axis of ``lines``.
        log_y: Whether the vertical axis is logarithmic.
    """

    kind: Literal["lines", "series", "images", "table", "number"]
    title: str
    keys: tuple[str, ...]
    x: str = "trainer/global_step"
    log_y: bool = False


SECTIONS: dict[str, tuple[Panel, ...]] = {
    "t study": (
        Panel("series", "FID over t", ("study/fid_over_t",)),
        Panel("series", "FID at 192-d over t", ("study/fid192_over_t",)),
        Panel("series", "KID over t", ("study/kid_over_t",)),
        Panel("series", "PSNR over t", ("study/psnr_over_t",)),
        Panel("series", "Median PSNR over t", ("study/psnr_median_over_t",)),
        Panel("images", "LQ at each t", ("study/grid",)),
        Panel("images", "Plot", ("study/plot",)),
        Panel("table", "Cells", ("study/cells",)),
        Panel("number", "Recommended t", ("recommended/t",)),
        Panel("number", "KID at this t", ("recommended/kid",)),
        Panel("number", "Median PSNR at this t", ("recommended/psnr_median",)),
    ),
    "Comparison of t studies and sweeps": (
        Panel("lines", "FID, all studies", ("cell/.*/fid$",), "cell/t"),
        Panel("lines", "FID at 192-d, all studies", ("cell/.*/fid192$",), "cell/t"),
        Panel("lines", "KID, all studies", ("cell/.*/kid$",), "cell/t"),
        Panel("lines", "Median PSNR, all studies", ("cell/.*/psnr_median$",), "cell/t"),
    ),
    "DDPM training": (
        Panel("lines", "Validation loss, EMA and raw weights", ("val/loss", "val_raw/loss"), log_y=True),
        Panel("lines", "Validation loss by band of t", ("val/loss_t.*",), log_y=True),
        Panel("lines", "Training loss", ("train/loss",), log_y=True),
        Panel("lines", "Learning rate", ("lr-Adam",)),
        Panel("lines", "Gradient norm", ("train/gradient_norm",), log_y=True),
        Panel("lines", "Images per second", ("train/pictures_per_second",)),
        Panel("images", "HQ, initial LQ, LQ at each t", ("samples",)),
    ),
    "Restorers": (
        Panel("lines", "Validation PSNR", ("val/psnr",)),
        Panel("lines", "Validation SSIM", ("val/ssim",)),
        Panel("images", "Enlarged LQ, restored, HQ", ("before_after",)),
        Panel("number", "Test PSNR", ("test/psnr",)),
        Panel("number", "Test SSIM", ("test/ssim",)),
        Panel("number", "Test FID", ("test/fid",)),
    ),
    "Pairs": (
        Panel("images", "HQ, initial LQ, LQ", ("pairs/contact_sheet",)),
        Panel("number", "Pairs per second", ("pairs/per_second",)),
        Panel("number", "Median PSNR of LQ", ("pairs/psnr_median",)),
    ),
}
"""The panels of each section, in the order shown."""


def main(arguments: argparse.Namespace) -> int:
    """Print or save the workspace.

    Args:
        arguments: ``entity``, ``project`` and ``dry_run`` of the command line.

    Returns:
        0.

    Raises:
        UserError: If the package or an API key is missing, or W&B rejects the workspace.
    """
    if arguments.dry_run:
        print(describe(arguments.entity, arguments.project))
        return 0
    built = workspace(arguments.entity, arguments.project)
    from ddpm_pairs.reports.wandb.run import has_api_key

    if not has_api_key():
        raise UserError("found no W&B API key; run `wandb login`, or add --dry-run")
    try:
        built.save()
    except Exception as error:  # W&B's client raises many types for networks, entities and projects
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"W&B did not save the workspace of {arguments.entity}/{arguments.project} ({reason}); check both names"
        ) from None
    print(f"saved: {built.url}")
    return 0


def describe(entity: str, project: str) -> str:
    """Return the panels as text, one per line."""
    lines = [f"workspace {NAME!r} of {entity}/{project}"]
    for section, panels in SECTIONS.items():
        lines += ["", section]
        for panel in panels:
            axis = f" over {panel.x}" if panel.kind == "lines" else ""
            shown = ", ".join(panel.keys)
            lines.append(f"  {panel.kind:<10}{panel.title:<40}{shown}{axis}")
    return "\n".join(lines)


def workspace(entity: str, project: str) -> Any:  # noqa: ANN401 - of an optional package
    """Build the panels as a ``wandb_workspaces`` Workspace without saving it.

    Raises:
        UserError: If the package is missing.
    """
    try:
        from wandb_workspaces.workspaces import Section, Workspace
    except ImportError:
        raise UserError(
            "wandb-workspaces is not installed; run `pip install wandb-workspaces`, or add --dry-run"
        ) from None
    sections = [
        Section(name=name, panels=[_translated(panel) for panel in panels], is_open=True)
        for name, panels in SECTIONS.items()
    ]
    return Workspace(entity=entity, project=project, name=NAME, sections=sections)


def _translated(panel: Panel) -> Any:  # noqa: ANN401
    from wandb_workspaces.reports import v2

    (key, *_) = panel.keys
    match panel.kind:
        case "lines":
            pattern = key if ".*" in key else None
            names = [] if pattern else list(panel.keys)
            return v2.LinePlot(title=panel.title, x=panel.x, y=names, metric_regex=pattern, log_y=panel.log_y or None)
        case "series":
            fields = {"step": "step", "lineKey": "lineKey", "lineVal": "lineVal"}
            strings = {"title": panel.title, "xname": "t"}
            query = {"summaryTable": {"tableKey": f"{key}_table"}}
            return v2.CustomChart(query=query, chart_name=SERIES, chart_fields=fields, chart_strings=strings)
        case "images":
            return v2.MediaBrowser(title=panel.title, media_keys=list(panel.keys), num_columns=1)
        case "table":
            return v2.WeavePanelSummaryTable(table_name=key)
        case "number":
            return v2.ScalarChart(title=panel.title, metric=v2.SummaryMetric(key))
