"""The callback that writes pairs to disk as they are made, and resumes interrupted runs."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L

from ddpm_pairs.data.high_quality import HighQualityImages, Work
from ddpm_pairs.errors import OutputError, UserError
from ddpm_pairs.files import as_output_error
from ddpm_pairs.images.find import Failure
from ddpm_pairs.pairset.check_pair import changed_pairs
from ddpm_pairs.pairset.folder import RUN_FILE, PairsFolder, read_run
from ddpm_pairs.pairset.records import variant_keys
from ddpm_pairs.run_folder import FolderLock
from ddpm_pairs.synthesis.generator import PairGenerator
from ddpm_pairs.synthesis.planning import check_places, check_sources, check_variants, plan
from ddpm_pairs.synthesis.provenance import resume, run_settings, write_run

MOST_ENCODERS = 8


class PairWriter(L.Callback):
    """Write the pairs folder; use it with ``PairGenerator`` and ``HighQualityImages``.

    ``check`` raises for every reason not to begin. ``setup`` tidies the folder and schedules the missing pairs. Pairs
    are then published batch by batch, and ``teardown`` joins the files of the ranks.

    Args:
        output_dir: The pairs folder. Existing pairs are not made again.
        allow_mixed: Resume a folder even if it was made with different settings or another checkpoint.
        config: The resolved config of the command line, for ``run.yaml``.

    Attributes:
        share: Number of pairs that this rank makes, set by ``setup``.
        publisher: The publisher of this rank's pairs, set by ``setup``.
        summary: After the run, on rank 0: ``made`` (pairs of this run), ``changed`` (pairs made again because
            their source changed), ``seconds``, ``folder`` (summary of all pairs
            in the folder), ``failures`` and ``occupancy`` (of this rank, see ``PairGenerator.occupancy``).
    """

    def __init__(self, output_dir: str, allow_mixed: bool = False, config: dict[str, Any] | None = None) -> None:
        self.root, self.allow_mixed, self.config = Path(output_dir), allow_mixed, config
        self.folder, self.lock = PairsFolder(self.root), FolderLock(self.root)
        self.failures: list[Failure] = []
        self.earlier = self.share = 0
        self.changed: list[str] = []
        self.publisher: Publisher | None = None
        self.settings: dict[str, Any] | None = None
        self.summary: dict[str, Any] = {}

    def check(self, generator: PairGenerator, data: HighQualityImages, device: str) -> None:
        """Check everything that could prevent the run, without writing pairs.

        Args:
            generator: The generator, with its walk added.
            data: The HQ images.
            device: The device of the run, ``cpu`` or ``cuda``.

        Raises:
            UserError: If the folder was made with different settings, cannot be written, or is being written by
                another process, or if the images cannot be used.
        """
        generator.check()
        data.find()
        if self.root.exists() and not self.root.is_dir():
            raise UserError(f"--output_dir: got the file {self.root}; expected a folder or a new name")
        with as_output_error(self.root):
            check_variants(data.pictures, generator.variants)
            check_places(self.folder, data, generator.variants)
            with self.lock:  # raises if another process is writing to the folder
                pass
            self.settings = run_settings(generator, device)
            earlier = read_run(self.root)
            if earlier is not None:
                resume(self.root, earlier, generator, self.settings, self.allow_mixed)
                check_sources(self.folder, earlier, data, generator.variants)

    def setup(self, trainer: L.Trainer, pl_module: PairGenerator, stage: str) -> None:
        """Tidy up after an interrupted run, and schedule the missing pairs."""
        data: HighQualityImages = trainer.datamodule
        if self.settings is None:
            self.check(pl_module, data, trainer.strategy.root_device.type)
        if trainer.global_rank > 0:
            self.folder = PairsFolder(self.root, trainer.global_rank)
        self._open(trainer, pl_module.variants)
        done = self.folder.keys()
        batches, failures = plan(data.pictures, pl_module, done, self.root)
        data.schedule(batches, pl_module.arrange)
        self.earlier, self.failures = len(done), [*data.failures, *failures]
        self.share = sum(map(len, batches[trainer.global_rank :: trainer.world_size]))
        workers = encoders(trainer.num_devices)
        # Room for two batches: one is encoded while the network makes the next.
        self.publisher = Publisher(self.folder, workers, depth=2 * max(pl_module.runtime.slots, workers))
        self.begin = time.monotonic()

    def on_predict_epoch_start(self, trainer: L.Trainer, pl_module: PairGenerator) -> None:
        """Write ``run.yaml``; by now the generator is prepared and its precision is known."""
        if trainer.is_global_zero:
            self._describe(trainer, pl_module)

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: PairGenerator,
        outputs: tuple[list[Work], list[Failure]],
        batch: Any,  # noqa: ANN401 - Lightning's signature
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Publish the pairs of a batch in the background."""
        pairs, failures = outputs
        if failures:
            self.folder.report(failures)
        for pair in pairs:
            self.publisher.submit(pair)

    def on_predict_end(self, trainer: L.Trainer, pl_module: PairGenerator) -> None:
        """Wait until all pairs are published."""
        self.publisher.close()

    def teardown(self, trainer: L.Trainer, pl_module: PairGenerator, stage: str) -> None:
        """Join the files of the ranks; not called after an interruption."""
        trainer.strategy.barrier("pairs written")
        seconds = time.monotonic() - self.begin
        if trainer.is_global_zero:
            folder, failures = self.folder.join(self.failures)
            if not (self.root / RUN_FILE).is_file():  # this rank had nothing left to make
                self._describe(trainer, pl_module)
            self.summary = {
                "made": folder.pairs - self.earlier,
                "changed": len(self.changed),
                "seconds": seconds,
                "folder": folder,
                "failures": failures,
                "occupancy": pl_module.occupancy,
            }
        self.lock.release()

    def on_exception(self, trainer: L.Trainer, pl_module: PairGenerator, exception: BaseException) -> None:
        """Publish the finished pairs and unlock the folder; it stays consistent, and the next run resumes it."""
        if self.publisher is not None:
            with suppress(OutputError):  # already reported, or less important than the exception
                self.publisher.close()
        self.lock.release()

    def _open(self, trainer: L.Trainer, variants: int) -> None:
        """Lock and tidy the folder on rank 0 while the other ranks wait; pairs of changed sources are removed."""
        trainer.strategy.barrier("pairs folder checked")
        if trainer.is_global_zero:
            with as_output_error(self.root):
                self.root.mkdir(parents=True, exist_ok=True)
            self.lock.acquire()
            self.changed = self._changed_pairs(trainer.datamodule, variants) if self.folder.manifests() else []
            self.folder.compact(self.changed)
        trainer.strategy.barrier("pairs folder tidied")

    def _changed_pairs(self, data: HighQualityImages, variants: int) -> list[str]:
        """Return the keys of pairs whose source is another image now."""
        sources = {key: one.path for one in data.pictures for key in variant_keys(one.key, variants)}
        return changed_pairs(self.root, self.folder.records(), sources)

    def _describe(self, trainer: L.Trainer, generator: PairGenerator) -> None:
        write_run(self.root, generator, self.settings, Path(trainer.datamodule.hq_dir), self.config)


class Publisher:
    """Publish pairs in threads while the next ones are made; at most ``depth`` of them are in memory at once.

    The line of a pair is appended as soon as its files and all earlier lines are written, so lines keep the order of
    submission. An error in a thread is raised in the caller, at the next ``submit`` or ``close``. Pairs submitted
    after the failed one get no line, and the next run makes them again.

    Args:
        folder: The pairs folder.
        workers: Number of threads that encode.
        depth: Maximum number of unfinished pairs, at least 1.

    Attributes:
        waiting: Number of submitted pairs that have no line yet.
    """

    def __init__(self, folder: PairsFolder, workers: int, depth: int) -> None:
        self.folder, self.depth, self.waiting = folder, depth, 0
        self._pool = ThreadPoolExecutor(workers, "publisher")
        self._changed = threading.Condition()
        self._submitted = self._appended = 0
        self._stored: dict[int, dict[str, Any]] = {}  # records that wait for an earlier one
        self._error: BaseException | None = None

    def submit(self, pair: Work) -> None:
        """Publish a pair in the background; block while ``depth`` pairs are unfinished.

        Args:
            pair: A finished pair, with ``hq`` or ``png``, ``lq`` and ``record``.

        Raises:
            OutputError: If an earlier pair could not be written.
        """
        with self._changed:
            self._wait(self.depth - 1)
            self.waiting += 1
        self._pool.submit(self._publish, self._submitted, pair)
        self._submitted += 1

    def drain(self) -> None:
        """Wait until all pairs are published.

        Raises:
            OutputError: If a pair could not be written.
        """
        with self._changed:
            self._wait(0)

    def close(self) -> None:
        """Call ``drain`` and end the threads; no thread writes after this returns or raises.

        Raises:
            OutputError: If a pair could not be written.
        """
        try:
            self.drain()
        finally:
            self._pool.shutdown(cancel_futures=True)

    def _wait(self, most: int) -> None:
        """Wait until at most ``most`` pairs are unfinished, or one has failed. The caller holds the lock."""
        while self._error is None and self.waiting > most:
            self._changed.wait()
        if self._error is not None:
            raise self._error

    def _publish(self, number: int, pair: Work) -> None:
        """Write the files of a pair, and append all lines that are next in order. Runs in a thread."""
        try:
            record = self.folder.store(pair.png or pair.hq, pair.lq, pair.record)
            with self._changed:
                self._stored[number] = record
                while self._appended in self._stored:
                    # Popped first: no line may follow one that was truncated by a full disk.
                    self.folder.append(self._stored.pop(self._appended))
                    self._appended += 1
                    self.waiting -= 1
                self._changed.notify_all()
        except BaseException as error:
            with self._changed:
                self._error = self._error or error
                self._changed.notify_all()


def encoders(processes: int) -> int:
    """Return the number of encoder threads per process, given the number of processes on this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(max(cores // processes, 1), MOST_ENCODERS)
