"""``lightning predict`` with a ``PairGenerator``: HQ images in, a pairs folder out; its progress and its summary."""

import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from ddpm_pairs.data import HighQualityImages
from ddpm_pairs.diffusion import load_denoiser
from ddpm_pairs.errors import UserError
from ddpm_pairs.pairset.records import Summary
from ddpm_pairs.reports.contact_sheet import SHEET, write_contact_sheet
from ddpm_pairs.reports.wandb.log import log_pairs
from ddpm_pairs.run import Run
from ddpm_pairs.shipped import weights_file
from ddpm_pairs.synthesis.generator import PairGenerator
from ddpm_pairs.synthesis.writer import PairWriter

INTERVAL = 60.0
"""Seconds over which pairs/s are averaged, and between two lines in a log file."""

FAILURES_SHOWN = 10


def prepare(run: Run) -> Callable[[], None]:
    """Load the DDPM, check the pairs folder, and try the network on the device.

    Raises:
        UserError: If a check fails, before anything is written.
    """
    generator, trainer = run.model, run.trainer
    if not isinstance(run.data, HighQualityImages):
        raise UserError(f"--data: got {type(run.data).__name__}; expected HighQualityImages")
    run.check()
    if run.ckpt_path is not None and generator.t[1] > 0:  # with t_max 0, there is no walk
        generator.add_walk(load_denoiser(weights_file(run.ckpt_path)))
    writer = PairWriter(str(run.output_dir), run.allow_mixed, run.config)
    device = trainer.strategy.root_device
    writer.check(generator, run.data, device.type)
    generator.prepare(device)
    callbacks = [one for one in trainer.callbacks if not isinstance(one, ProgressBar)]
    bar = [PairsProgress(writer)] if len(callbacks) < len(trainer.callbacks) else []
    trainer.callbacks = [*callbacks, writer, *bar]

    def work() -> None:
        trainer.predict(generator, run.data, ckpt_path=None, return_predictions=False)
        if trainer.is_global_zero:
            report_pairs(run.output_dir, writer.summary, generator.to(device))
            if trainer.loggers:
                log_pairs(trainer.loggers, run.output_dir, writer.summary)

    return work


class PairsProgress(ProgressBar):
    """Show the rank, its pairs so far, how many of them are not written yet, and pairs/s.

    On a terminal, rank 0 shows a bar of its own share. Otherwise, each rank prints one line per minute.

    Args:
        writer: The writer of the run, which must precede this callback in the Trainer.
    """

    def __init__(self, writer: PairWriter) -> None:
        super().__init__()
        self.writer, self.made = writer, 0
        self._marks: deque[tuple[float, int]] = deque()
        self._printed = -INTERVAL
        self._enabled = True
        self._bar: Progress | None = None

    def enable(self) -> None:
        """Show progress from now on."""
        self._enabled = True

    def disable(self) -> None:
        """Hide progress from now on."""
        self._enabled = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Store the rank; unlike Lightning's bars, lines are printed by all ranks."""
        self._trainer = trainer
        self.of = f" of {trainer.world_size}" if trainer.world_size > 1 else ""

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start counting."""
        self._marks.append((time.monotonic(), 0))
        console = Console(stderr=True)
        if console.is_terminal and self._enabled and trainer.is_global_zero:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("pairs"),
                TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[speed]}"),
                console=console, auto_refresh=False,
            )  # fmt: skip
            self._task = self._bar.add_task(f"rank 0{self.of}", total=self.writer.share, speed="")
            self._bar.start()
        self._lines = self._enabled and not console.is_terminal

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: tuple[list[Any], list[Any]],
        batch: Any,  # noqa: ANN401 - Lightning's signature
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the pairs of a batch, which the writer has just received."""
        self.made += len(outputs[0])
        now = time.monotonic()
        self._marks.append((now, self.made))
        while len(self._marks) > 2 and self._marks[0][0] < now - INTERVAL:
            self._marks.popleft()
        if self._bar is not None:
            self._bar.update(self._task, completed=self.made, speed=self._speed(), refresh=True)
        elif now >= self._printed + INTERVAL:
            self._print()

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the final counts; the writer has finished by now."""
        if self._bar is not None:
            self._bar.update(self._task, speed=self._speed(), refresh=True)
            self._stop()
        else:
            self._print()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Release the terminal."""
        self._stop()

    def _print(self) -> None:
        self._printed = self._marks[-1][0]
        if self._lines and self.writer.share:
            rank = f"rank {self.trainer.global_rank}{self.of}"
            print(f"{rank}: {self.made} of {self.writer.share} pairs, {self._speed()}", file=sys.stderr, flush=True)

    def _speed(self) -> str:
        (begin, before), (now, made) = self._marks[0], self._marks[-1]
        return f"{(made - before) / max(now - begin, 1e-9):.2f} pairs/s, {self.writer.publisher.waiting} in the queue"

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


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
    if summary["changed"]:
        lines.append(
            ("sources changed", f"{summary['changed']} earlier pairs replaced, because their HQ images changed")
        )
    if made:
        lines.append(("speed", f"{made / max(summary['seconds'], 1e-9):.2f} pairs/s ({summary['seconds']:.1f} s)"))
    if summary["occupancy"] is not None:
        lines.append(("network slots used", f"{100 * summary['occupancy']:.1f}%"))
    if folder.pairs:
        lines += [
            ("PSNR of LQ", _quartiles(folder.psnr)),
            ("PSNR of initial LQ", _quartiles(folder.psnr_initial)),
            ("accepted", _accepted(folder)),
            ("evaluations", f"{folder.evaluations / folder.pairs:.1f} per pair on average"),
            ("t", f"{folder.t / folder.pairs:.0f} on average"),
        ]
    if failures:
        lines.append(("sources skipped", f"{len(failures)}; see {root / 'failures.jsonl'}"))
        lines += [("", f"{failure.source}: {failure.reason}") for failure in failures[:FAILURES_SHOWN]]
        if len(failures) > FAILURES_SHOWN:
            lines.append(("", f"and {len(failures) - FAILURES_SHOWN} more"))
    if folder.unnamed:
        lines.append(("meta_info.txt", f"leaves out {folder.unnamed} pairs with a comma in their name"))
    lines.append(("folder", str(root)))
    if folder.pairs:
        lines.append(("contact sheet", str(root / SHEET)))
    return lines


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
