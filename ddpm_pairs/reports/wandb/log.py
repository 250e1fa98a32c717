"""Log a run of ``predict`` to Weights & Biases."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, WandbLogger

from ddpm_pairs.reports.contact_sheet import SHEET


def log_pairs(loggers: Iterable[Logger], root: Path, summary: dict[str, Any]) -> None:
    """Log a finished run of ``predict`` to each W&B logger: numbers to the summary, and the contact sheet.

    Args:
        loggers: The Trainer's loggers.
        root: The pairs folder.
        summary: ``PairWriter.summary``.
    """
    runs, folder = wandb_runs(loggers), summary["folder"]
    numbers = {"made": summary["made"], "in_folder": folder.pairs, "skipped": len(summary["failures"])}
    if summary["made"]:
        numbers["per_second"] = summary["made"] / max(summary["seconds"], 1e-9)
    if summary["occupancy"] is not None:
        numbers["slots_used"] = summary["occupancy"]
    if folder.pairs:
        numbers["accepted"] = folder.accepted
        numbers["t_mean"] = folder.t / folder.pairs
        for name, values in (("psnr", folder.psnr), ("psnr_initial", folder.psnr_initial)):
            finite = np.asarray(values)[np.isfinite(values)]
            numbers[f"{name}_median"] = float(np.median(finite)) if len(finite) else None
    for run in runs:
        if (root / SHEET).is_file():
            import wandb  # only here: importing it takes a moment

            run.log({"pairs/contact_sheet": wandb.Image(str(root / SHEET))})
        run.summary.update({f"pairs/{name}": value for name, value in numbers.items()})


def wandb_runs(loggers: Iterable[Logger]) -> list[Any]:
    """Return the W&B runs of the loggers that have one."""
    return [logger.experiment for logger in loggers if isinstance(logger, WandbLogger)]
