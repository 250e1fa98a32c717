"""Whole images of any size in scheduled batches, for predict."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from ddpm_pairs.data.base import PictureDataModule
from ddpm_pairs.images.decode import UnreadablePicture
from ddpm_pairs.images.find import Failure, Picture

WINDOW = 8
"""Batches of one rank that are arranged together, just before they are loaded."""

Arrange = Callable[[list[list[Any]]], list[list[Any]]]


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
