"""What all DataModules share, and whole images of any size in scheduled batches, for predict."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler

from ddpm_pairs.data.workers import begin_worker
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.decode import UnreadablePicture
from ddpm_pairs.images.find import Failure, Picture
from ddpm_pairs.run import Run

WINDOW = 8
"""Batches of one rank that are arranged together, just before they are loaded."""

Arrange = Callable[[list[list[Any]]], list[list[Any]]]


class PictureDataModule(L.LightningDataModule, ABC):
    """Base of the DataModules: common options, the search for files, and the list of what cannot be used.

    Args:
        batch_size: pictures in a batch of one process; None where the DataModule chooses it.
        num_workers: loader processes for each process of the trainer; 0 loads in the process itself.
        seed: seed of everything random in the data.

    Attributes:
        failures: files that cannot be used, found so far in this process.
    """

    def __init__(self, batch_size: int | None, num_workers: int, seed: int) -> None:
        """Check the options; files are not looked at before `find()`."""
        super().__init__()
        if batch_size is not None:
            require("--data.batch_size", batch_size, 1)
        require("--data.num_workers", num_workers, 0)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.failures: list[Failure] = []
        self._found = False

    def find(self) -> None:
        """Look at the folders; a second call does nothing.

        Raises:
            UserError: a folder is missing, is no folder, or holds nothing that can be used.
        """
        if not self._found:
            self._find()
            self._found = True

    @abstractmethod
    def _find(self) -> None:
        """Fill the lists of pictures and failures, or raise what `find` says."""

    def check_run(self, run: Run) -> None:
        """Look at the folders before any work; see `setup`."""
        self.trainer = run.trainer  # it knows the number of ranks
        self.setup(run.verb)

    def setup(self, stage: str) -> None:
        """Look at the folders, where the command line has not done so already."""
        self.find()

    @property
    def rank(self) -> int:
        """This process among those of the trainer, from 0; 0 without a trainer."""
        return self.trainer.global_rank if self.trainer else 0

    @property
    def world_size(self) -> int:
        """Number of processes of the trainer; 1 without a trainer."""
        return self.trainer.world_size if self.trainer else 1

    def report(self, failures: list[Failure]) -> None:
        """Add failures met while loading to `failures`, each once, and warn of the new ones."""
        for failure in failures:
            if failure not in self.failures:
                self.failures.append(failure)
                warnings.warn(f"{failure.source} is left out: {failure.reason}", stacklevel=2)

    def _loader(
        self,
        dataset: Dataset,
        sampler: Sampler,
        batch_size: int | None,
        collate: Callable[[list], Any] | None = None,
        persistent: bool = False,
    ) -> DataLoader:
        # Keyword arguments only: Lightning builds the loader of predict a second time and loses positional ones.
        return DataLoader(
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

    A batch of predict is ``{"pictures": list, "failures": list[Failure]}``: what could be loaded and what could not.
    Either list may be empty, and a rank with nothing to do gets one batch of two empty lists, so that all ranks run the
    same hooks.

    Args:
        batch_size: Images in a batch of one process; None where the DataModule chooses it.
        num_workers: Loader processes for each process of the trainer.
        seed: Seed of the run.

    Attributes:
        pictures: The images found, sorted by key, after ``find()``.
        predict_batch_size: Images in a batch of predict where nothing was scheduled.
    """

    predict_batch_size = 1

    def __init__(self, batch_size: int | None, num_workers: int, seed: int) -> None:
        """Check the options; files are not looked at before ``find()``."""
        super().__init__(batch_size, num_workers, seed)
        self.pictures: list[Picture] = []
        self._schedule: list[list[Any]] | None = None
        self._arrange: Arrange = self.arrange

    @staticmethod
    def arrange(window: list[list[Any]]) -> list[list[Any]]:
        """What ``load`` gets for a window of batches, where ``schedule`` was not told otherwise."""
        return window

    @staticmethod
    @abstractmethod
    def load(picture: Any) -> Any:  # noqa: ANN401 - the DataModule's own kind
        """Load an image as a dataclass whose pixels are tensors, in a loader's process.

        Raises:
            UnreadablePicture: The file cannot be used.
            OSError: The file cannot be read.
        """

    def schedule(self, batches: list[list[Any]], arrange: Arrange | None = None) -> None:
        """Set what predict loads.

        Args:
            batches: The batches of all ranks, in order; rank r loads batches r, r + world_size, ... May be empty.
            arrange: Turns up to ``WINDOW`` of this rank's batches into as many batches of what ``load`` takes. It is
                called in the main process, once for each image, just before the images are needed.
        """
        self._schedule, self._arrange = batches, arrange or self.arrange

    def predict_dataloader(self) -> DataLoader:
        """This rank's batches of the schedule, or of all images in order."""
        batches, size = self._schedule, self.predict_batch_size
        if batches is None:
            batches = [self.pictures[i : i + size] for i in range(0, len(self.pictures), size)]
        sampler = _Arranged(batches[self.rank :: self.world_size], self._arrange)
        return self._loader(_Loaded(self.load), sampler, batch_size=None)

    def transfer_batch_to_device(
        self, batch: dict[str, Any], device: torch.device, dataloader_idx: int
    ) -> dict[str, Any]:
        """Move the pixels of images; Lightning's own way stops at a frozen dataclass."""
        if "pictures" not in batch:
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        if device.type == "cpu":
            return batch
        return batch | {"pictures": [_move(picture, device) for picture in batch["pictures"]]}


class _Arranged(DistributedSampler):
    """A rank's batches, arranged window by window; a batch itself is the index by which a loader's process works.

    It is a ``DistributedSampler`` because Lightning leaves a loader that has one alone.

    Args:
        share: The rank's batches.
        arrange: See ``WholePictures.schedule``.
    """

    def __init__(self, share: list[list[Any]], arrange: Arrange) -> None:
        super().__init__(range(1), num_replicas=1, rank=0, shuffle=False)
        # A rank without a batch would skip the loop, hooks included, while the others wait for it there.
        self._share, self._arrange = share or [[]], arrange

    def __iter__(self) -> Iterator[list[Any]]:
        """The batches, as lists of what is to be loaded."""
        for first in range(0, len(self._share), WINDOW):
            yield from self._arrange(self._share[first : first + WINDOW])

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._share)


class _Loaded(Dataset):
    """Item "list of images" is that list, loaded."""

    def __init__(self, load: Callable[[Any], Any]) -> None:
        self.load = load

    def __len__(self) -> int:
        return 1  # asked for by samplers of torch alone

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
    """Check a number that the user gave.

    Raises:
        UserError: `value` is below `minimum`.
    """
    if value < minimum:
        raise UserError(f"{option}: got {value}; give {minimum} or more")
