"""Whole pictures of any size in scheduled batches, for predict."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from ddpm_pairs.data.base import PictureDataModule
from ddpm_pairs.data.samplers import StridedSampler
from ddpm_pairs.images.decode import UnreadablePicture
from ddpm_pairs.images.find import Failure, Picture


class WholePictures(PictureDataModule):
    """Base of the DataModules that predict.

    A batch of predict is `{"pictures": list, "failures": list[Failure]}`: what could be loaded and what could not.
    Either list may be empty, and a rank with nothing to do gets one batch of two empty lists, so that all ranks run the
    same hooks.

    Args:
        batch_size: pictures in a batch of one process; None where the DataModule chooses it.
        num_workers: loader processes for each process of the trainer.
        seed: seed of the run.

    Attributes:
        pictures: the pictures found, sorted by key, after `find()`.
        predict_batch_size: pictures in a batch of predict where nothing was scheduled.
    """

    predict_batch_size = 1

    def __init__(self, batch_size: int | None, num_workers: int, seed: int) -> None:
        """Check the options; files are not looked at before `find()`."""
        super().__init__(batch_size, num_workers, seed)
        self.pictures: list[Picture] = []
        self._schedule: list[list[Picture]] | None = None

    @staticmethod
    @abstractmethod
    def load(picture: Picture) -> Any:  # noqa: ANN401 - the DataModule's own kind
        """Load a picture as a dataclass whose pixels are tensors, in a loader's process.

        Raises:
            UnreadablePicture: the file cannot be used.
            OSError: the file cannot be read.
        """

    def schedule(self, batches: list[list[Picture]]) -> None:
        """Set what predict loads.

        Args:
            batches: the batches of all ranks, in order; rank r loads batches r, r + world_size, ... May be empty.
        """
        self._schedule = batches

    def predict_dataloader(self) -> DataLoader:
        """This rank's batches of the schedule, or of all pictures in order."""
        batches, size = self._schedule, self.predict_batch_size
        if batches is None:
            batches = [self.pictures[i : i + size] for i in range(0, len(self.pictures), size)]
        # A rank without a batch would skip the loop, hooks included, while the others wait for it there.
        share = batches[self.rank :: self.world_size] or [[]]
        return self._loader(_LoadedBatches(share, self.load), StridedSampler(len(share), 0, 1), batch_size=None)

    def transfer_batch_to_device(
        self, batch: dict[str, Any], device: torch.device, dataloader_idx: int
    ) -> dict[str, Any]:
        """Move the pixels of pictures; Lightning's own way stops at a frozen dataclass."""
        if "pictures" not in batch:
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        return batch | {"pictures": [_move(picture, device) for picture in batch["pictures"]]}


class _LoadedBatches(Dataset):
    """Item i is batch i, loaded."""

    def __init__(self, batches: list[list[Picture]], load: Callable[[Picture], Any]) -> None:
        self.batches = batches
        self.load = load

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, i: int) -> dict[str, list[Any]]:
        pictures, failures = [], []
        for picture in self.batches[i]:
            try:
                pictures.append(self.load(picture))
            except (UnreadablePicture, OSError) as error:
                failures.append(Failure(picture.source, getattr(error, "strerror", None) or str(error)))
        return {"pictures": pictures, "failures": failures}


def _move(picture: Any, device: torch.device) -> Any:  # noqa: ANN401 - a dataclass of any kind
    pixels = {field.name: getattr(picture, field.name) for field in fields(picture)}
    return replace(picture, **{n: value.to(device) for n, value in pixels.items() if isinstance(value, torch.Tensor)})
