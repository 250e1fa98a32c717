"""Callback that writes restored images and resumes an interrupted run."""

import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.utilities.rank_zero import rank_zero_warn

from ddpm_pairs.data.pairs import RestorationPairs
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import encode_png, is_whole_png, write_atomically
from ddpm_pairs.images.find import Failure
from ddpm_pairs.restoration.restorer import Restored, Restorer
from ddpm_pairs.run_folder import RunFolder

RESTORED = "restored"


def restored_folder(root: Path, rank: int = 0) -> RunFolder:
    """Return the output folder of a restorer; its settings are those that determine the restored images."""
    return RunFolder(root, "run.yaml", "restored images", rank)


class RestorationWriter(L.Callback):
    """Write ``<output_dir>/restored/<key>.png``; use it with a ``Restorer`` and the LQ of ``RestorationPairs``.

    Args:
        output_dir: Output folder. Images that it already contains are not restored again.
        settings: Settings that determine the restored images: SHA-256 of the weights, and the tiles. A folder made
            with other settings is an error.

    Attributes:
        summary: After the run, on rank 0: ``made`` (images of this run), ``seconds``, and ``failures``.
    """

    def __init__(self, output_dir: str | Path, settings: dict[str, Any]) -> None:
        self.root, self.settings = Path(output_dir), settings
        self.summary: dict[str, Any] = {}

    def check(self, data: RestorationPairs) -> None:
        """Check the output folder, and schedule the images that are not restored yet.

        If ``run.yaml`` cannot be read, all images are restored again: nobody knows which settings they were made with.

        Raises:
            UserError: If the folder contains images restored with other settings, or contains the LQ images.
        """
        folder = restored_folder(self.root)
        self.starts_again = folder.is_torn()
        if self.starts_again:
            rank_zero_warn(f"{folder.record} cannot be read, as after a power failure; all images are restored again")
        else:
            folder.check(self.settings)
        if Path(data.lq_dir).resolve() in (self.root.resolve(), (self.root / RESTORED).resolve()):
            raise UserError(f"--output_dir {self.root} is the folder of the LQ images; use another folder")
        self.todo = [one for one in data.pictures if self.starts_again or not is_whole_png(self._path(one.key))]
        data.schedule([[one] for one in self.todo])

    def setup(self, trainer: L.Trainer, pl_module: Restorer, stage: str) -> None:
        """Write the settings to the output folder."""
        self.begin, self.folder = time.monotonic(), restored_folder(self.root, trainer.global_rank)
        if trainer.is_global_zero:
            for one in self.todo if self.starts_again else ():
                self._path(one.key).unlink(missing_ok=True)
            self.folder.begin(self.settings)
        trainer.strategy.barrier("settings written")

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: Restorer,
        outputs: tuple[list[Restored], list[Failure]],
        batch: Any,  # noqa: ANN401 - Lightning's signature
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the restored images of a batch."""
        restored, failures = outputs
        for one in restored:
            write_atomically(self._path(one.key), encode_png(one.pixels), self.folder.rank)
        self.folder.report(failures)

    def teardown(self, trainer: L.Trainer, pl_module: Restorer, stage: str) -> None:
        """Collect the failures of all ranks; not called after an interruption."""
        trainer.strategy.barrier("images restored")
        seconds = time.monotonic() - self.begin
        if not trainer.is_global_zero:
            return
        failures = self.folder.join(trainer.datamodule.failures)
        made = sum(self._path(one.key).is_file() for one in self.todo)
        self.summary = {"made": made, "seconds": seconds, "failures": failures}

    def _path(self, key: str) -> Path:
        return self.root / RESTORED / f"{key}.png"
