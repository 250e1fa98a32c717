"""The callback that writes pairs to disk as they are made, and goes on where an earlier run ended."""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L

from ddpm_pairs.data.high_quality import HighQualityImages
from ddpm_pairs.errors import OutputError, UserError
from ddpm_pairs.files import as_output_error, sha256_of
from ddpm_pairs.images.find import Failure
from ddpm_pairs.pairset.folder import PairsFolder, Summary
from ddpm_pairs.pairset.lock import FolderLock
from ddpm_pairs.synthesis.background import Publisher
from ddpm_pairs.synthesis.batching import check_variants, plan_batches, unfinished
from ddpm_pairs.synthesis.generator import Pair, PairGenerator
from ddpm_pairs.synthesis.preflight import check_places, check_sources, without_long_names
from ddpm_pairs.synthesis.provenance import resume, run_settings, write_run

MOST_ENCODERS = 8


class PairWriter(L.Callback):
    """Writes the pairs folder; use it with ``PairGenerator`` and ``HighQualityImages``.

    Args:
        output_dir: The pairs folder. Pairs that it holds already are not made again.
        checkpoint: Path of the DDPM that the generator's ``denoiser`` came from; ``None`` with ``t_max`` 0.
        allow_mixed: Go on with a folder although settings or checkpoint differ from those it was made with.
        config: The resolved config of the command line, for ``run.yaml``.

    Attributes:
        share: From ``setup`` on, the pairs that this rank is to make.
        publisher: From ``setup`` on, what publishes the pairs of this rank.
        summary: After the run, on rank 0: ``made`` (pairs of this run), ``seconds``, ``folder`` (of all pairs in the
            folder), ``failures`` and ``occupancy`` (of the network's slots, see ``plan_batches``).
    """

    def __init__(
        self,
        output_dir: str,
        checkpoint: str | None = None,
        allow_mixed: bool = False,
        config: dict[str, Any] | None = None,
    ) -> None:
        self.root, self.checkpoint, self.allow_mixed, self.config = Path(output_dir), checkpoint, allow_mixed, config
        self.folder, self.lock = PairsFolder(self.root), FolderLock(self.root)
        self.failures: list[Failure] = []
        self.earlier = self.share = 0
        self.publisher: Publisher | None = None
        self.settings: dict[str, Any] | None = None
        self.occupancy: float | None = None
        self.summary: dict[str, Any] = {}

    def check(self, generator: PairGenerator, data: HighQualityImages, device: str) -> None:
        """Find every reason not to begin, without writing anything.

        Args:
            generator: With its ``denoiser`` set.
            data: The HQ pictures.
            device: ``cpu`` or ``cuda``, where the run will take place.

        Raises:
            UserError: for a folder made with other settings, that cannot be written or that another process writes
                to, for a checkpoint that does not fit, or unusable pictures.
        """
        generator.check()
        data.find()
        if self.root.exists() and not self.root.is_dir():
            raise UserError(f"--output_dir {self.root} is a file: expected a folder or a new name")
        check_variants(data.pictures, generator.variants)
        with as_output_error(self.root):
            check_places(self.root, data, generator.variants)
            with self.lock:  # refuses where another process is writing
                pass
            self.settings = run_settings(generator, sha256_of(self.checkpoint), device)
            resume(self.root, generator, self.settings, self.allow_mixed)
            check_sources(self.root, data, generator.variants)

    def setup(self, trainer: L.Trainer, pl_module: PairGenerator, stage: str) -> None:
        """Tidy up after an interrupted run, and hand the loader what is still to be made."""
        data: HighQualityImages = trainer.datamodule
        device = trainer.strategy.root_device.type
        if self.settings is None:
            self.check(pl_module, data, device)
        self.folder = PairsFolder(self.root, trainer.global_rank)
        trainer.strategy.barrier("pairs folder checked")
        if trainer.is_global_zero:
            with as_output_error(self.root):
                self.root.mkdir(parents=True, exist_ok=True)
            self.lock.acquire()
            self.folder.compact()
        trainer.strategy.barrier("pairs folder tidied")
        done = self.folder.keys()
        self.earlier = len(done)
        todo, unnameable = without_long_names(self.root, unfinished(data.pictures, pl_module.variants, done))
        planned = plan_batches(todo, pl_module)
        self.occupancy = planned.occupancy
        self.failures = [*data.failures, *unnameable, *planned.failures]
        data.schedule(planned.batches)
        self.share = sum(map(len, planned.batches[trainer.global_rank :: trainer.world_size]))
        workers = encoders(trainer.num_devices)
        # Two batches: one is encoded while the network makes the next.
        self.publisher = Publisher(self.folder, workers, depth=2 * max(pl_module.slots, workers))
        self.begin = time.monotonic()

    def on_predict_epoch_start(self, trainer: L.Trainer, pl_module: PairGenerator) -> None:
        """Describe the run; by now the generator is prepared and knows its precision."""
        if trainer.is_global_zero:
            self._describe(trainer, pl_module)

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: PairGenerator,
        outputs: tuple[list[Pair], list[Failure]],
        batch: Any,  # noqa: ANN401 - Lightning's signature
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Publish the pairs of a batch, in the background."""
        pairs, failures = outputs
        self.folder.report(failures)
        for pair in pairs:
            self.publisher.submit(pair)

    def on_predict_end(self, trainer: L.Trainer, pl_module: PairGenerator) -> None:
        """Wait until the last pairs are published."""
        self.publisher.close()

    def teardown(self, trainer: L.Trainer, pl_module: PairGenerator, stage: str) -> None:
        """Join what the ranks wrote; not called after an interruption."""
        trainer.strategy.barrier("pairs written")
        seconds = time.monotonic() - self.begin
        if trainer.is_global_zero:
            failures = self.folder.join(self.failures)
            if not (self.root / "run.yaml").is_file():  # nothing was left to make on this rank
                self._describe(trainer, pl_module)
            folder = Summary(self.folder.joined())
            self.summary = {
                "made": folder.pairs - self.earlier,
                "seconds": seconds,
                "folder": folder,
                "failures": failures,
                "occupancy": self.occupancy,
            }
        self.lock.release()

    def on_exception(self, trainer: L.Trainer, pl_module: PairGenerator, exception: BaseException) -> None:
        """Publish what is made, and let the folder go; what is in it is whole, and the next run goes on from there."""
        if self.publisher is not None:
            with suppress(OutputError):  # told already, or less urgent than what ends the run
                self.publisher.close()
        self.lock.release()

    def _describe(self, trainer: L.Trainer, generator: PairGenerator) -> None:
        places = {"hq_dir": str(Path(trainer.datamodule.hq_dir).resolve())}
        places["checkpoint"] = None if self.checkpoint is None else str(Path(self.checkpoint).resolve())
        with as_output_error(self.root / "run.yaml"):
            write_run(self.root, generator, self.settings, places, self.config)


def encoders(processes: int) -> int:
    """How many threads each of so many processes on this machine has for encoding; the pairs do not depend on it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(max(cores // processes, 1), MOST_ENCODERS)
