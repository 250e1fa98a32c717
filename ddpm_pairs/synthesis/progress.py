"""Progress of ``predict``: a bar on a terminal, lines in a log file."""

import sys
import time
from collections import deque
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ddpm_pairs.synthesis.writer import PairWriter

INTERVAL = 60.0
"""Seconds over which pairs/s are averaged, and between two lines in a log file."""


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
