"""Callback that measures a job of the Trainer: seconds per step, images per step, and where the host waits."""

import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import torch


@dataclass
class Measurement:
    """Result of a job.

    Attributes:
        seconds: Seconds per step, averaged over the timed steps.
        images: Images per step.
        waits: How often the host waited for the GPU in one step, by file and line.
    """

    seconds: float = float("nan")
    images: int = 0
    waits: Counter[str] = field(default_factory=Counter)


class Watch(L.Callback):
    """Run warm-up steps, time the next steps, count the host's waits in one more step, and end the job.

    A step is measured from the end of the previous step to its own end, so it includes the loader and all other
    callbacks. Lightning builds this class from its path, so settings and results are class attributes.

    Attributes:
        warm_up: Steps before the clock starts.
        steps: Timed steps.
        found: Result of the last job; ``None`` before its end.
    """

    warm_up = 3
    steps = 16
    found: Measurement | None = None

    def __init__(self) -> None:
        type(self).found = None
        self._measured = Measurement()
        self._recorder: warnings.catch_warnings | None = None
        self._records: list[warnings.WarningMessage] = []

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure a step of ``fit``."""
        self._step(trainer, pl_module.device, len(batch["lq"] if "lq" in batch else batch["hq"]), batch_idx + 1)

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure a step of ``predict``."""
        self._step(trainer, pl_module.device, len(batch["pictures"]), batch_idx + 1)

    def _step(self, trainer: L.Trainer, device: torch.device, images: int, done: int) -> None:
        if done == self.warm_up:
            self._begin = _now(device)
        elif done == self.warm_up + self.steps:
            self._measured.seconds, self._measured.images = (_now(device) - self._begin) / self.steps, images
            self._record(device)
        elif done == self.warm_up + self.steps + 1:
            self._stop_recording(device)
            type(self).found = self._measured
            trainer.should_stop = True

    def _record(self, device: torch.device) -> None:
        if device.type == "cuda":
            self._recorder = warnings.catch_warnings(record=True)
            self._records = self._recorder.__enter__()
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")

    def _stop_recording(self, device: torch.device) -> None:
        if self._recorder is not None:
            torch.cuda.set_sync_debug_mode("default")
            self._recorder.__exit__(None, None, None)
            places = [f"{Path(one.filename).name}:{one.lineno}" for one in self._records if _is_wait(one)]
            self._measured.waits = Counter(places)


def _is_wait(record: warnings.WarningMessage) -> bool:
    return "synchronizing CUDA operation" in str(record.message)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
