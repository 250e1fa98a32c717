"""Reports of ``test`` and ``predict`` with a restorer: scores, a before-after sheet and a summary."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from PIL import Image
from rich.console import Console
from rich.text import Text
from torch import Tensor

from ddpm_pairs.images.find import Failure, Picture
from ddpm_pairs.metrics.evaluated import Evaluated
from ddpm_pairs.reports.contact_sheet import Entry, save_sheet
from ddpm_pairs.reports.scoring.output import print_scores, write_scores
from ddpm_pairs.reports.scoring.scores import Scores

SHEET = "before_after.png"
HEADINGS = ("enlarged LQ", "restored", "HQ")
FAILURES_SHOWN = 10
_DIGITS = {"psnr": 2, "ssim": 3, "lpips": 3}


class Shown(Protocol):
    """The center of an image as ``ddpm_pairs.images.before_after`` keeps it.

    Attributes:
        key: The image's key.
        lq: uint8 (3, h, w).
        restored: uint8 (3, H, W).
        hq: uint8 (3, H, W).
    """

    key: str
    lq: Tensor
    restored: Tensor
    hq: Tensor


def report_scores(
    root: Path,
    evaluated: Evaluated,
    shown: Sequence[Shown] = (),
    failures: Mapping[str, str] | None = None,
    references: Mapping[str, Picture] | None = None,
) -> None:
    """Write and print the scores of a test.

    Writes ``metrics.json``, ``metrics.csv``, ``pictures.csv``, ``report.html`` and ``before_after.png``.

    Args:
        root: The output folder; its folder ``restored`` contains the restored images.
        evaluated: ``Evaluation.result``.
        shown: ``Evaluation.shown``, for the sheet.
        failures: By key, why an image could not be scored.
        references: The HQ image of each key; required for images in ``report.html``.
    """
    scores = Scores(
        n=evaluated.n,
        intervals=evaluated.intervals,
        inputs=evaluated.input_values or None,
        notes=evaluated.notes,
        settings=evaluated.settings,
        pictures=evaluated.pictures,
        failures=[Failure(key, reason) for key, reason in (failures or {}).items()],
    )
    scores.values |= evaluated.values
    if references:
        restored = {key: Picture(key, root / "restored" / f"{key}.png", f"{key}.png") for key in evaluated.pictures}
        scores.files = {key: (picture, references[key]) for key, picture in restored.items()}
    write_scores(root, scores)
    if shown:
        write_sheet(root / SHEET, shown, evaluated)
    print_scores(scores, root)


def write_sheet(path: Path, shown: Sequence[Shown], evaluated: Evaluated) -> None:
    """Draw images before and after restoration, each with its scores before and after."""
    entries = []
    for one in shown:
        pictures = tuple(_image(part) for part in (one.lq, one.restored, one.hq))
        found, before = (scores.get(one.key, {}) for scores in (evaluated.pictures, evaluated.inputs))
        entries.append(Entry(pictures, one.key, _words(found, before)))
    words = _words(evaluated.values, evaluated.input_values)
    save_sheet(path, entries, HEADINGS, f"{path.parent.resolve().name}: {evaluated.n} images   {words}".rstrip())


def _words(found: Mapping[str, float], before: Mapping[str, float]) -> str:
    """Format paired scores, preceded by those of the enlarged LQ if they are known."""
    words = []
    for name, digits in _DIGITS.items():
        if name in found:
            start = f"{before[name]:.{digits}f} to " if name in before else ""
            words.append(f"{name.upper()} {start}{found[name]:.{digits}f}")
    return "   ".join(words)


def report_restored(root: Path, summary: Mapping[str, Any]) -> None:
    """Print the summary of a run that restores a folder.

    Args:
        root: The output folder.
        summary: ``RestorationWriter.summary``.
    """
    made, failures, seconds = summary["made"], summary["failures"], max(summary["seconds"], 1e-9)
    lines = [("restored now", f"{made}")]
    if made:
        lines.append(("speed", f"{made / seconds:.2f} images/s ({seconds:.1f} s)"))
    if failures:
        lines.append(("skipped", f"{len(failures)}; see {root / 'failures.jsonl'}"))
        lines += [("", f"{failure.source}: {failure.reason}") for failure in failures[:FAILURES_SHOWN]]
    lines.append(("folder", str(root / "restored")))
    console = Console(highlight=False)
    for label, text in lines:
        console.print(Text.assemble((f"{label:<20}", "bold"), text), soft_wrap=True)


def _image(picture: Tensor) -> Image.Image:
    return Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())
