"""How far a run of ``predict`` is: a bar on a terminal, lines in a log file."""

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
"""Seconds over which pairs/s are counted, and between two lines of a log file."""


class PairsProgress(ProgressBar):
    """Tells the rank, its pairs so far, how many of them the encoders have not written yet, and pairs/s.

    On a terminal rank 0 draws a bar of its own share; elsewhere each rank prints a line a minute.

    Args:
        writer: The run's, which stands before this among the Trainer's callbacks.
    """

    def __init__(self, writer: PairWriter) -> None:
        super().__init__()
        self.writer, self.made = writer, 0
        self._marks: deque[tuple[float, int]] = deque()
        self._told = -INTERVAL
        self._enabled = True
        self._bar: Progress | None = None

    def enable(self) -> None:
        """Show it from now on."""
        self._enabled = True

    def disable(self) -> None:
        """Show nothing from now on."""
        self._enabled = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Take note of the rank; unlike a bar, lines are for all of them."""
        self._trainer = trainer
        self.of = f" of {trainer.world_size}" if trainer.world_size > 1 else ""

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin to count."""
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
        """Count the pairs of a batch, which the writer has just been given."""
        self.made += len(outputs[0])
        now = time.monotonic()
        self._marks.append((now, self.made))
        while len(self._marks) > 2 and self._marks[0][0] < now - INTERVAL:
            self._marks.popleft()
        if self._bar is not None:
            self._bar.update(self._task, completed=self.made, speed=self._speed(), refresh=True)
        elif now >= self._told + INTERVAL:
            self._tell()

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tell how it ended; the writer has written everything by now."""
        if self._bar is not None:
            self._bar.update(self._task, speed=self._speed(), refresh=True)
            self._stop()
        else:
            self._tell()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Give the terminal back."""
        self._stop()

    def _tell(self) -> None:
        self._told = self._marks[-1][0]
        if self._lines:
            rank = f"rank {self.trainer.global_rank}{self.of}"
            print(f"{rank}: {self.made} of {self.writer.share} pairs, {self._speed()}", file=sys.stderr, flush=True)

    def _speed(self) -> str:
        (begin, before), (now, made) = self._marks[0], self._marks[-1]
        return f"{(made - before) / max(now - begin, 1e-9):.2f} pairs/s, {self.writer.publisher.waiting} in the queue"

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
