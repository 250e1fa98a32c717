"""Log the t study to Weights & Biases."""

import csv
import json
import math
from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from ddpm_pairs.files import write_atomically
from ddpm_pairs.reports.wandb.log import wandb_runs
from ddpm_pairs.study.recommendation import Recommendation

CURVES = {"fid": "floor_fid", "fid192": "floor_fid192", "kid": "floor_kid", "psnr": None, "psnr_median": None}
"""Scores plotted over t, one line per degradation; each with the column of its floor, which is plotted as a line."""


def log_study(
    loggers: Iterable[Logger],
    root: Path,
    chosen: Recommendation,
    more: Callable[[Path], dict[str, Any]] = lambda root: {},
) -> None:
    """Log a finished t study to each W&B logger.

    ``study/cells`` is the table, ``study/<score>_over_t`` its curves, ``study/plot`` and ``study/grid`` the images; the
    recommendation is in the summary of the run. ``cell/<degradation>/<score>`` over ``cell/t`` repeats the numbers for
    panels that compare several studies. Rerunning the same study does not log to a W&B run twice; ``wandb/logged`` in
    the folder keeps track.

    Args:
        loggers: The Trainer's loggers.
        root: The study's folder.
        chosen: Its recommendation.
        more: Returns further entries to log, from the study's folder.
    """
    runs = wandb_runs(loggers)
    if not runs:
        return
    import wandb  # only here: importing it takes a moment

    with (root / "ablation.csv").open(newline="", encoding="utf-8") as file:
        rows = [{name: _value(text) for name, text in row.items()} for row in csv.DictReader(file)]
    digest = _digest(root, chosen)
    kept = root / "wandb" / "logged"
    earlier = kept.read_text(encoding="utf-8").splitlines() if kept.is_file() else []
    runs = [run for run in runs if f"{run.id} {digest}" not in earlier]
    names = list(dict.fromkeys(row["degradation"] for row in rows))
    ts = sorted({row["t"] for row in rows})
    cells = {(row["degradation"], row["t"]): row for row in rows}
    for run in runs:
        logged: dict[str, Any] = {
            "study/cells": wandb.Table(columns=list(rows[0]), data=[list(row.values()) for row in rows]),
            "study/plot": wandb.Image(str(root / "ablation.png")),
            "study/grid": wandb.Image(str(root / "grid.png")),
        }
        for score, floor in CURVES.items():
            lines = {name: [cells[name, t][score] for t in ts] for name in names}
            if floor is not None:
                lines["real vs. real"] = [rows[0][floor]] * len(ts)
            logged[f"study/{score}_over_t"] = wandb.plot.line_series(
                ts, list(lines.values()), keys=list(lines), title=f"{score} over t", xname="t"
            )
        run.log(logged | more(root))
        run.define_metric("cell/t", hidden=True)
        for name in names:
            for score in CURVES:
                run.define_metric(f"cell/{name}/{score}", step_metric="cell/t")
        for t in ts:
            scores = {f"cell/{name}/{score}": cells[name, t][score] for name in names for score in CURVES}
            run.log({"cell/t": t} | scores)
        summary = chosen.as_dict()
        summary["warnings"] = "; ".join(chosen.warnings)
        for name in ("best_by_fid", "best_by_fid192"):
            summary[name] = "{}, t = {}".format(*summary[name])
        run.summary.update({f"recommended/{name}": value for name, value in summary.items()})
        earlier.append(f"{run.id} {digest}")
        write_atomically(kept, "".join(f"{line}\n" for line in earlier).encode())


def starts_entries(root: Path) -> dict[str, Any]:
    """Return the table of starts with its plot and grid as entries ``starts/...`` of a W&B run."""
    import wandb  # as above

    with (root / "starts.csv").open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    return {
        "starts/rows": wandb.Table(columns=head, data=[[_value(text) for text in row] for row in rows]),
        "starts/plot": wandb.Image(str(root / "starts.png")),
        "starts/grid": wandb.Image(str(root / "starts_grid.png")),
    }


def _digest(root: Path, chosen: Recommendation) -> str:
    """Hash the numbers and the recommendation, which identify a study."""
    content = (root / "ablation.csv").read_bytes() + json.dumps(chosen.as_dict()).encode()
    return blake2b(content, digest_size=16).hexdigest()


def _value(text: str) -> str | int | float | None:
    """Parse a cell of the CSV file; ``None`` for an infinite PSNR, which no chart can show."""
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        return value if math.isfinite(value) else None
    return text or None
