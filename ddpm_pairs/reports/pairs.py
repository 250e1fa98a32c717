"""Report a run of ``predict``: a summary on the terminal and ``contact_sheet.png``."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.text import Text

from ddpm_pairs.pairset.folder import joined_at
from ddpm_pairs.pairset.records import KINDS, Summary, is_rejected, recorded_psnr
from ddpm_pairs.reports.contact_sheet import Entry, save_sheet, spread
from ddpm_pairs.synthesis.generator import PairGenerator

SHEET = "contact_sheet.png"
PAIRS_SHOWN, FAILURES_SHOWN = 12, 10
HEADINGS = ("HQ", "initial LQ", "LQ")

Record = dict[str, Any]


def report_pairs(root: Path, summary: dict[str, Any], generator: PairGenerator) -> None:
    """Write ``contact_sheet.png`` to a finished pairs folder and print a summary of the run.

    Args:
        root: The pairs folder.
        summary: ``PairWriter.summary``.
        generator: The generator of the run.
    """
    if summary["folder"].pairs:
        write_contact_sheet(root, summary["folder"].pairs, generator)
    console = Console(highlight=False)
    for label, text in summary_lines(root, summary):
        console.print(Text.assemble((f"{label:<20}", "bold"), text), soft_wrap=True)


def summary_lines(root: Path, summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the summary as labels (empty on lines that continue a list) and texts."""
    folder, failures, made = summary["folder"], summary["failures"], summary["made"]
    lines = [("pairs made now", f"{made} (total in the folder: {folder.pairs})")]
    if made:
        lines.append(("speed", f"{made / max(summary['seconds'], 1e-9):.2f} pairs/s ({summary['seconds']:.1f} s)"))
    if summary["occupancy"] is not None:
        lines.append(("network slots used", f"{100 * summary['occupancy']:.1f}%"))
    if folder.pairs:
        lines += [
            ("PSNR of LQ", _quartiles(folder.psnr)),
            ("PSNR of initial LQ", _quartiles(folder.psnr_initial)),
            ("accepted", _accepted(folder)),
            ("evaluations per pair", f"{folder.evaluations / folder.pairs:.1f} on average"),
            ("t", f"{folder.t / folder.pairs:.0f} on average"),
        ]
    if failures:
        lines.append(("sources skipped", f"{len(failures)}; see {root / 'failures.jsonl'}"))
        lines += [("", f"{failure.source}: {failure.reason}") for failure in failures[:FAILURES_SHOWN]]
        if len(failures) > FAILURES_SHOWN:
            lines.append(("", f"and {len(failures) - FAILURES_SHOWN} more"))
    lines.append(("folder", str(root)))
    if folder.pairs:
        lines.append(("contact sheet", str(root / SHEET)))
    return lines


def write_contact_sheet(root: Path, pairs: int, generator: PairGenerator) -> None:
    """Show up to 12 pairs, evenly spaced in the sorted keys: HQ, initial LQ, LQ.

    The initial LQ is computed again; it is left blank for pairs made with another degradation than the generator's.

    Args:
        root: The pairs folder of a run that has ended.
        pairs: Number of pairs in it, at least 1.
        generator: The generator of the run, on the device it ran on.
    """
    records = joined_at(root, spread(pairs, PAIRS_SHOWN))
    images = [[_open(root / record[kind]) for kind in KINDS] for record in records]
    hqs = [torch.from_numpy(np.array(hq)).permute(2, 0, 1) for hq, _ in images]
    made = generator.initial_lqs(hqs, records)
    initial = [None if one is None else Image.fromarray(one.permute(1, 2, 0).numpy()) for one in made]
    entries = [
        Entry((hq, middle, lq), record["key"], _facts(record, hq, lq))
        for record, (hq, lq), middle in zip(records, images, initial, strict=True)
    ]
    heading = f"{root.resolve().name}: {pairs} pairs, {generator.start.name}, scale {generator.scale}"
    save_sheet(root / SHEET, entries, HEADINGS, heading)


def _facts(record: Record, hq: Image.Image, lq: Image.Image) -> str:
    """The text below a pair; lines of other origin may lack any part of it."""
    psnr, initial, rejected = recorded_psnr(record), recorded_psnr(record, "psnr_initial"), is_rejected(record)
    facts = [f"t {record['t']}"] if "t" in record else []
    if psnr is not None:
        facts.append(_decibels(psnr) + ("" if initial is None else f" (initial {_decibels(initial)})"))
    facts.append(f"HQ {hq.width}x{hq.height}, LQ {lq.width}x{lq.height}")
    if rejected:
        facts.append("not accepted")
    return "   ".join(facts)


def _open(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def _accepted(folder: Summary) -> str:
    """How many pairs the quality gate accepted, and what happens to the others."""
    rejected = folder.pairs - folder.accepted
    text = f"{folder.accepted} of {folder.pairs}"
    if rejected:
        text += f"; {rejected} lost more PSNR than --model.psnr_drop allows and are skipped by restorers"
    if 2 * rejected > folder.pairs:
        text += " (use a smaller --model.t_max or a milder initial degradation)"
    return text


def _quartiles(values: Sequence[float]) -> str:
    """Quartiles without interpolation, since a PSNR may be infinite."""
    if not values:
        return "not recorded"
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], method="inverted_cdf")
    return f"{low:.1f} / {middle:.1f} / {high:.1f} dB (quartiles)"


def _decibels(value: float) -> str:
    return "equal" if value == math.inf else f"{value:.1f} dB"
