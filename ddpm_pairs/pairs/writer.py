"""The callback that writes pairs to disk as they are made, and goes on where an earlier run ended."""

import time
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

import lightning as L

from ddpm_pairs.data.decode import UnreadablePicture, read_size
from ddpm_pairs.data.high_quality import HighQualityImages
from ddpm_pairs.data.pictures import Failure, Picture
from ddpm_pairs.files import sha256_of
from ddpm_pairs.pairs.folder import PairsFolder
from ddpm_pairs.pairs.generator import MIN_LQ_SIDE, Pair, PairGenerator, too_small
from ddpm_pairs.pairs.run_record import go_on, read_run, run_settings, write_run


class PairWriter(L.Callback):
    """Writes the pairs folder; use it with ``PairGenerator`` and ``HighQualityImages``.

    Args:
        output_dir: The pairs folder. Pairs that it holds already are not made again.
        checkpoint: Path of the DDPM that the generator's ``denoiser`` came from; ``None`` with ``t_max`` 0.
        allow_mixed: Go on with a folder although settings or checkpoint differ from those it was made with.
        config: The resolved config of the command line, for ``run.yaml``.

    Attributes:
        summary: After the run, on rank 0: ``made`` (pairs of this run), ``seconds``, ``records`` and ``failures``.
    """

    def __init__(
        self,
        output_dir: str,
        checkpoint: str | None = None,
        allow_mixed: bool = False,
        config: dict[str, Any] | None = None,
    ) -> None:
        self.root, self.checkpoint, self.allow_mixed, self.config = Path(output_dir), checkpoint, allow_mixed, config
        self.folder = PairsFolder(self.root)
        self.failures: list[Failure] = []
        self.done: set[str] = set()
        self.settings: dict[str, Any] | None = None
        self.summary: dict[str, Any] = {}

    def check(self, generator: PairGenerator, data: HighQualityImages, device: str) -> None:
        """Find every reason not to begin, without writing anything.

        Args:
            generator: With its ``denoiser`` set.
            data: The HQ pictures.
            device: ``cpu`` or ``cuda``, where the run will take place.

        Raises:
            ValueError: for a folder made with other settings, a checkpoint that does not fit, or unusable pictures.
        """
        generator.check()
        data.find()
        if self.root.exists() and not self.root.is_dir():
            raise ValueError(f"--output_dir {self.root} is a file: expected a folder or a new name")
        _check_places(self.root, data)
        self.settings = run_settings(generator, sha256_of(self.checkpoint), device)
        go_on(self.root, generator, self.settings, self.allow_mixed)
        _check_sources(self.root, data)

    def setup(self, trainer: L.Trainer, pl_module: PairGenerator, stage: str) -> None:
        """Tidy up after an interrupted run, and hand the loader what is still to be made."""
        data: HighQualityImages = trainer.datamodule
        device = trainer.strategy.root_device.type
        if self.settings is None:
            self.check(pl_module, data, device)
        self.folder = PairsFolder(self.root, trainer.global_rank)
        if trainer.is_global_zero:
            self.folder.compact()
        trainer.strategy.barrier("pairs folder tidied")
        self.done = set(self.folder.finished())
        todo = [picture for picture in data.pictures if picture.key not in self.done]
        batches, unusable = plan_batches(todo, pl_module)
        self.failures = [*data.failures, *unusable]
        data.schedule(batches)
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
        """Publish the pairs of a batch."""
        pairs, failures = outputs
        self.folder.report(failures)
        for pair in pairs:
            self.folder.publish(pair.hq, pair.lq, pair.record)

    def teardown(self, trainer: L.Trainer, pl_module: PairGenerator, stage: str) -> None:
        """Join what the ranks wrote; not called after an interruption."""
        trainer.strategy.barrier("pairs written")
        seconds = time.monotonic() - self.begin
        if trainer.is_global_zero:
            records, failures = self.folder.finish(self.failures)
            if not (self.root / "run.yaml").is_file():  # nothing was left to make on this rank
                self._describe(trainer, pl_module)
            made = sum(key not in self.done for key in records)
            self.summary = {"made": made, "seconds": seconds, "records": records, "failures": failures}

    def _describe(self, trainer: L.Trainer, generator: PairGenerator) -> None:
        places = {"hq_dir": str(Path(trainer.datamodule.hq_dir).resolve())}
        places["checkpoint"] = None if self.checkpoint is None else str(Path(self.checkpoint).resolve())
        write_run(self.root, generator, self.settings, places, self.config)


def _check_places(root: Path, data: HighQualityImages) -> None:
    """Refuse an output that would be read as input, overwrite it, or need one path for a file and a folder."""
    target, source = root.resolve(), Path(data.hq_dir).resolve()
    if target.is_relative_to(source) or any(source.is_relative_to(target / kind) for kind in ("hq", "lq")):
        raise ValueError(f"--output_dir {root} and --data.hq_dir {data.hq_dir} lie in one another: give another folder")
    folders = {parent.as_posix() for picture in data.pictures for parent in PurePosixPath(picture.key).parents}
    for picture in data.pictures:
        if f"{picture.key}.png" in folders:
            raise ValueError(
                f"--data.hq_dir: {picture.source!r} would become {picture.key}.png, which is a folder: "
                "rename one of them"
            )


def _check_sources(root: Path, data: HighQualityImages) -> None:
    """Where the folder was made from another hq_dir, refuse keys that there belonged to other pictures."""
    earlier = read_run(root)
    if earlier is None or earlier["places"]["hq_dir"] == str(Path(data.hq_dir).resolve()):
        return
    done = PairsFolder(root).finished()
    for picture in data.pictures:
        record = done.get(picture.key)
        if record is not None and record["source_sha256"] != sha256(picture.path.read_bytes()).hexdigest():
            raise ValueError(
                f"--output_dir {root} holds a pair {picture.key!r} made from another picture than that of "
                f"--data.hq_dir {data.hq_dir}: give another folder"
            )


def plan_batches(pictures: list[Picture], generator: PairGenerator) -> tuple[list[list[Picture]], list[Failure]]:
    """Batches of ``slots`` pictures that share a canvas size, and the pictures whose header already rules them out.

    Only headers are read.
    """
    sized, failures = [], []
    for picture in pictures:
        try:
            height, width = read_size(picture.path)
        except UnreadablePicture as error:
            failures.append(Failure(picture.source, str(error)))
            continue
        if min(height, width) < MIN_LQ_SIDE * generator.scale:
            failures.append(Failure(picture.source, too_small(height, width, generator.scale)))
        else:
            sized.append((generator.canvas((height, width)), picture))
    by_canvas: dict[tuple[int, int], list[Picture]] = {}
    for canvas, picture in sorted(sized, key=lambda one: (one[0], one[1].key)):
        by_canvas.setdefault(canvas, []).append(picture)
    batches = [
        group[first : first + generator.slots]
        for group in by_canvas.values()
        for first in range(0, len(group), generator.slots)
    ]
    return batches, failures
