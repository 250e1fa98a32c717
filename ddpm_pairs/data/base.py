"""Base class of all DataModules, and of those that predict: whole images of any size in scheduled batches."""

import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler

from ddpm_pairs.data.workers import Loader, begin_worker, little_shared_memory
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.decode import UnreadablePicture
from ddpm_pairs.images.find import Failure, Picture
from ddpm_pairs.plain_text import printable
from ddpm_pairs.run import Run

WINDOW = 8
"""Number of batches of one rank that are arranged together, just before they are loaded."""

MOST_WORKERS = 512
"""Largest number of loader processes; more would exhaust the memory before they start."""

Arrange = Callable[[list[list[Any]]], list[list[Any]]]


class PictureDataModule(L.LightningDataModule, ABC):
    """Base of the DataModules: common options, the search for files, and the list of unusable files.

    Args:
        batch_size: Images per batch of one process; ``None`` if the DataModule chooses it.
        num_workers: Loader processes for each process of the trainer; 0 loads in the process itself.
        seed: Seed of all randomness in the data.

    Attributes:
        failures: Unusable files found so far in this process.
    """

    def __init__(self, batch_size: int | None, num_workers: int, seed: int) -> None:
        """Check the options; files are not read before ``find()``."""
        super().__init__()
        if batch_size is not None:
            require("--data.batch_size", batch_size, 1)
        if not 0 <= num_workers <= MOST_WORKERS:
            raise UserError(f"--data.num_workers: got {num_workers}; expected 0 to {MOST_WORKERS}")
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.failures: list[Failure] = []
        self._found = self._warned = False

    def find(self) -> None:
        """Search the folders; a second call does nothing.

        Raises:
            UserError: If a folder is missing, is not a folder, or contains nothing usable.
        """
        if not self._found:
            self._find()
            self._found = True

    @abstractmethod
    def _find(self) -> None:
        """Fill the lists of images and failures, or raise the errors of ``find``."""

    def check_run(self, run: Run) -> None:
        """Search the folders before any work starts; see ``setup``."""
        self.trainer = run.trainer  # for the number of ranks
        self.setup(run.verb)

    def setup(self, stage: str) -> None:
        """Search the folders, unless the command line has already done so."""
        self.find()

    @property
    def rank(self) -> int:
        """Global rank of this process in the trainer; 0 without a trainer."""
        return self.trainer.global_rank if self.trainer else 0

    @property
    def world_size(self) -> int:
        """Number of processes in the trainer; 1 without a trainer."""
        return self.trainer.world_size if self.trainer else 1

    def report(self, failures: list[Failure]) -> None:
        """Add failures during loading to ``failures``, each once, and warn of new ones."""
        for failure in failures:
            if failure not in self.failures:
                self.failures.append(failure)
                warnings.warn(printable(f"{failure.source} is left out: {failure.reason}"), stacklevel=2)

    def _loader(
        self,
        dataset: Dataset,
        sampler: Sampler,
        batch_size: int | None,
        collate: Callable[[list], Any] | None = None,
        persistent: bool = False,
    ) -> DataLoader:
        if self.num_workers > 0 and not self._warned and self.rank == 0 and (little := little_shared_memory()):
            self._warned = True
            print(
                f"{little}; images are sent in another way, which is slower (in Docker, use --shm-size 2g)",
                file=sys.stderr,
            )
        # Keyword arguments only: Lightning rebuilds the predict loader and loses positional arguments.
        kind = Loader if self.num_workers > 0 else DataLoader
        return kind(
            dataset=dataset,
            sampler=sampler,
            batch_size=batch_size,
            collate_fn=collate,
            num_workers=self.num_workers,
            persistent_workers=persistent and self.num_workers > 0,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
            worker_init_fn=begin_worker,
        )


class WholePictures(PictureDataModule):
    """Base of the DataModules that predict.

    A batch for predict is ``{"pictures": list, "failures": list[Failure]}``: the loaded images, and those that could
    not be loaded. Either list may be empty. A rank without images gets one batch of two empty lists, so that all ranks
    run the same hooks.

    Args:
        batch_size: Images per batch of one process; ``None`` if the DataModule chooses it.
        num_workers: Loader processes for each process of the trainer.
        seed: Seed of the run.

    Attributes:
        pictures: The images found, sorted by key, after ``find()``.
        predict_batch_size: Images per batch for predict, if no batches were scheduled.
    """

    predict_batch_size = 1

    def __init__(self, batch_size: int | None, num_workers: int, seed: int) -> None:
        """Check the options; files are not read before ``find()``."""
        super().__init__(batch_size, num_workers, seed)
        self.pictures: list[Picture] = []
        self._schedule: list[list[Any]] | None = None
        self._arrange: Arrange = self.arrange

    @staticmethod
    def arrange(window: list[list[Any]]) -> list[list[Any]]:
        """Turn a window of batches into arguments of ``load``; the default of ``schedule``."""
        return window

    @staticmethod
    @abstractmethod
    def load(picture: Any) -> Any:  # noqa: ANN401 - a type of the DataModule's own
        """Load an image as a dataclass whose pixels are tensors. Called in a loader process.

        Raises:
            UnreadablePicture: If the file cannot be used.
            OSError: If the file cannot be read.
        """

    def schedule(self, batches: list[list[Any]], arrange: Arrange | None = None) -> None:
        """Set the batches that predict loads.

        Args:
            batches: The batches of all ranks, in order; rank r loads batches r, r + world_size, ... May be empty.
            arrange: Turns up to ``WINDOW`` of this rank's batches into the same number of batches of arguments for
                ``load``. Called in the main process just before the images are needed; each image is passed once.
        """
        self._schedule, self._arrange = batches, arrange or self.arrange

    def predict_dataloader(self) -> DataLoader:
        """Return a loader of this rank's scheduled batches, or of its share of all images in order."""
        batches, size = self._schedule, self.predict_batch_size
        if batches is None:
            batches = [self.pictures[i : i + size] for i in range(0, len(self.pictures), size)]
        sampler = _Arranged(batches[self.rank :: self.world_size], self._arrange)
        return self._loader(_Loaded(self.load), sampler, batch_size=None)

    def transfer_batch_to_device(
        self, batch: dict[str, Any], device: torch.device, dataloader_idx: int
    ) -> dict[str, Any]:
        """Move the pixels of the images. Lightning's default does not move the contents of a frozen dataclass."""
        if "pictures" not in batch:
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        if device.type == "cpu":
            return batch
        return batch | {"pictures": [_move(picture, device) for picture in batch["pictures"]]}


class _Arranged(DistributedSampler):
    """A sampler of a rank's batches, arranged window by window; each batch is the index that a loader process receives.

    It is a ``DistributedSampler`` because Lightning does not replace a sampler of that class.

    Args:
        share: The batches of this rank.
        arrange: See ``WholePictures.schedule``.
    """

    def __init__(self, share: list[list[Any]], arrange: Arrange) -> None:
        super().__init__(range(1), num_replicas=1, rank=0, shuffle=False)
        # A rank without batches would skip the loop and its hooks, and the other ranks would wait for it.
        self._share, self._arrange = share or [[]], arrange

    def __iter__(self) -> Iterator[list[Any]]:
        """Yield batches as lists of arguments for ``load``."""
        for first in range(0, len(self._share), WINDOW):
            yield from self._arrange(self._share[first : first + WINDOW])

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._share)


class _Loaded(Dataset):
    """A dataset whose index is a list of images and whose item is that list, loaded."""

    def __init__(self, load: Callable[[Any], Any]) -> None:
        self.load = load

    def __len__(self) -> int:
        return 1  # only samplers of torch use it

    def __getitem__(self, batch: list[Any]) -> dict[str, list[Any]]:
        pictures, failures = [], []
        for picture in batch:
            try:
                pictures.append(self.load(picture))
            except (UnreadablePicture, OSError) as error:
                failures.append(Failure(picture.source, getattr(error, "strerror", None) or str(error)))
        return {"pictures": pictures, "failures": failures}


def _move(picture: Any, device: torch.device) -> Any:  # noqa: ANN401 - a dataclass of any kind
    pixels = {field.name: getattr(picture, field.name) for field in fields(picture)}
    return replace(picture, **{n: value.to(device) for n, value in pixels.items() if isinstance(value, torch.Tensor)})


def require(option: str, value: float, minimum: float) -> None:
    """Check that a number from the user is not too small.

    Args:
        option: Name of the option, for the message.
        value: The number.
        minimum: The smallest valid number.

    Raises:
        UserError: If ``value`` is below ``minimum``.
    """
    if value < minimum:
        raise UserError(f"{option}: got {value}; expected {minimum} or more")
