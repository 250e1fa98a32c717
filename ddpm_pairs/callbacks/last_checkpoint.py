"""Save the latest state of a fit as ``last.ckpt``."""

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint

from ddpm_pairs.errors import UserError
from ddpm_pairs.stopping import STOPS, Stopped
from ddpm_pairs.training.checkpoint_io import AtomicCheckpointIO

_HALF_WRITTEN = f".{'[0-9a-f]' * 16}.*.tmp"
"""Pattern of the temporary names that ``ddpm_pairs.files.atomic_file`` uses."""


class LastCheckpoint(Checkpoint):
    """Save ``last.ckpt`` at regular intervals, at the end of the fit, and when the fit is interrupted.

    The first Ctrl-C, SIGTERM or SIGHUP stops the fit after the current step, so the saved state is that of a complete
    step. A second Ctrl-C stops it immediately, without saving. A fit that fails with an error does not modify the file.

    All checkpoints of the fit are written with ``AtomicCheckpointIO``, unless the Trainer has a plugin for this.

    Args:
        dirpath: The run's folder.
        every_n_steps: Steps between saves.
        keep_every_n_steps: Steps between copies ``step_<number>.ckpt`` that are kept; null keeps none.

    Raises:
        UserError: If a number is below 1.
    """

    # Under DDP, the ranks agree on an interruption only every few steps, because it takes a collective operation.
    _AGREE_EVERY = 10

    def __init__(self, dirpath: str, every_n_steps: int = 1000, keep_every_n_steps: int | None = None) -> None:
        for name, value in (("every_n_steps", every_n_steps), ("keep_every_n_steps", keep_every_n_steps)):
            if value is not None and value < 1:
                raise UserError(f"LastCheckpoint.{name}: got {value}; expected 1 or more")
        self.dirpath, self.every_n_steps, self.keep_every_n_steps = Path(dirpath), every_n_steps, keep_every_n_steps
        self._saved_step = self._seen_step = -1
        self._whole_step = True
        self._signal = 0
        self._stopping = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Replace Lightning's way of writing checkpoints, and remove what a killed fit has left half written."""
        AtomicCheckpointIO.install(trainer.strategy)
        if stage == "fit" and trainer.is_global_zero:
            for left in self.dirpath.glob(_HALF_WRITTEN):
                left.unlink(missing_ok=True)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start counting at the current step, and start handling signals."""
        self._seen_step = trainer.global_step
        # Not earlier: the Trainer has just saved all handlers, which it restores in the end, and installed its own.
        if threading.current_thread() is threading.main_thread():
            for number in STOPS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as SIGHUP is under nohup
                    signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = self._signal or number

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Save if a checkpoint is due; stop here after a signal."""
        step = trainer.global_step
        self._whole_step = step != self._seen_step  # False between the batches of gradient accumulation
        if not self._whole_step:
            return
        self._seen_step = step
        if step % self.every_n_steps == 0:
            self._save(trainer)
        if self.keep_every_n_steps and step % self.keep_every_n_steps == 0:
            trainer.save_checkpoint(self.dirpath / f"step_{step:07d}.ckpt", weights_only=False)
        if trainer.world_size == 1 or step % self._AGREE_EVERY == 0:
            self._stop_if_interrupted(trainer)

    def on_validation_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Stop during validation, too, if there is one rank; several ranks may have different numbers of batches."""
        if trainer.world_size == 1 and self._whole_step:
            self._stop_if_interrupted(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the final state."""
        if trainer.global_step != self._saved_step:
            self._save(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Save the state after an orderly stop; further signals have no effect until this is done."""
        if isinstance(exception, Stopped) and self._stopping:
            self._save(trainer)

    def _stop_if_interrupted(self, trainer: L.Trainer) -> None:
        if trainer.strategy.reduce_boolean_decision(self._signal > 0, all=False):
            # Not every rank may have received a signal.
            number = torch.tensor(self._signal, device=trainer.strategy.root_device)
            self._stopping = True
            raise Stopped(int(trainer.strategy.reduce(number, reduce_op="max")))

    def _save(self, trainer: L.Trainer) -> None:
        trainer.save_checkpoint(self.dirpath / "last.ckpt", weights_only=False)
        self._saved_step = trainer.global_step
        if trainer.is_global_zero:
            # Lightning writes these when SLURM requeues a job, and prefers them to --ckpt_path, however old they are.
            for older in self.dirpath.glob("hpc_ckpt_*.ckpt"):
                older.unlink(missing_ok=True)
