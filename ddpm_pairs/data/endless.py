"""An endless, resumable stream of training samples, and fixed validation samples."""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ddpm_pairs.data.base import PictureDataModule
from ddpm_pairs.data.samplers import EndlessSampler, StridedSampler
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.decode import UnreadablePicture, decode_picture
from ddpm_pairs.images.find import Failure, Picture
from ddpm_pairs.tensors import seed_of

Item = TypeVar("Item")
Read = TypeVar("Read")


class StreamedImages(PictureDataModule):
    """Base of the DataModules for training.

    Training sample number i, counted over all ranks from the first step of the run, is a pure function of i, so a
    resumed fit gets the same samples as an uninterrupted one.

    Args:
        batch_size: Number of samples in the batch of one process.
        val_fraction: Share of the images used for validation.
        num_workers: Number of loader processes per process of the trainer.
        seed: Seed of everything random in training.

    Raises:
        UserError: If an option is out of range.
    """

    def __init__(self, batch_size: int, val_fraction: float, num_workers: int, seed: int) -> None:
        """Check the options; files are not read before ``find()``."""
        super().__init__(batch_size, num_workers, seed)
        if not 0 <= val_fraction < 1:
            raise UserError(f"--data.val_fraction: got {val_fraction}; expected 0 or more and less than 1")
        self.val_fraction = val_fraction

    @property
    @abstractmethod
    def epoch_samples(self) -> int:
        """Number of training samples in which each image, or each pair, is visited once, after ``find()``."""

    @abstractmethod
    def training_samples(self) -> Dataset:
        """Return a dataset whose item i, for any i >= 0, is training sample number i."""

    @abstractmethod
    def validation_samples(self) -> Dataset:
        """Return a dataset of all validation samples; it has a length."""

    @abstractmethod
    def collate(self, training: bool) -> Callable[[list], dict[str, Any]]:
        """Return the collate function; its batches must contain ``failures``, those of all samples."""

    def setup(self, stage: str) -> None:
        """Find the files.

        Raises:
            UserError: If there are fewer validation samples than ranks.
        """
        super().setup(stage)
        if stage in ("fit", "validate") and (n := len(self.validation_samples())) < self.world_size:
            raise UserError(
                f"--data.val_dir: got {n} validation samples; expected {self.world_size} or more, one per rank; "
                "use fewer devices, add images, or increase --data.val_fraction"
            )

    def train_dataloader(self) -> DataLoader:
        """Return endless batches that start at the trainer's step."""
        return self._loader(
            self.training_samples(),
            EndlessSampler(self._samples_drawn, self.rank, self.world_size),
            batch_size=self.batch_size,
            collate=self.collate(training=True),
            persistent=True,
        )

    def val_dataloader(self) -> DataLoader:
        """Return each validation sample once; rank r gets samples r, r + world_size, ..."""
        samples = self.validation_samples()
        return self._loader(
            samples,
            StridedSampler(len(samples), self.rank, self.world_size),
            batch_size=self.batch_size,
            collate=self.collate(training=False),
            persistent=True,
        )

    def on_before_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Remove the failures from a batch and report them."""
        self.report(batch.pop("failures"))
        return batch

    def _samples_drawn(self) -> int:
        if self.trainer is None:
            return 0
        steps = self.trainer.global_step * self.trainer.accumulate_grad_batches
        return steps * self.batch_size * self.world_size


def split(
    items: list[Item], val_fraction: float, name: Callable[[Item], str] = lambda item: item.key
) -> tuple[list[Item], list[Item]]:
    """Split items into training and validation by their names only.

    An item stays on its side when others are added or removed, except for one that fills an otherwise empty side.

    Args:
        items: One or more items, such as images.
        val_fraction: Expected share of validation items, in [0, 1).
        name: Returns the name of an item, by default its key; items with the same name stay together.

    Returns:
        Training and validation items, at least one each. If there is only one name, all items are in both.
    """
    place = {name(item): seed_of("validation", name(item)) / 2**63 for item in items}
    in_order = sorted(place.values())
    # Limited so that neither side is empty.
    threshold = min(max(val_fraction, in_order[0]), in_order[-2] if len(in_order) > 1 else 1.0)
    train = [item for item in items if place[name(item)] > threshold]
    return train or items, [item for item in items if place[name(item)] <= threshold]


@lru_cache(maxsize=8)  # a batch spans at most two epochs of a folder, unless the folder is smaller than the batch
def order_of(n: int, *parts: str | int) -> np.ndarray:
    """Return a permutation of ``range(n)``, seeded by ``parts``."""
    return np.random.default_rng(seed_of(*parts)).permutation(n)


def first_readable(items: Iterable[Item], read: Callable[[Item], Read | Failure]) -> tuple[Item, Read, list[Failure]]:
    """Return the first item that can be read, the result of reading it, and the failures before it.

    Raises:
        UserError: If no item can be read.
    """
    failures = []
    for item in items:
        found = read(item)
        if not isinstance(found, Failure):
            return item, found, failures
        failures.append(found)
    raise UserError(f"none of the images can be decoded (first: {failures[0].source}: {failures[0].reason})")


def decode_or_failure(picture: Picture) -> np.ndarray | Failure:
    """Decode an image to uint8 (H, W, 3), or return the reason why it cannot be used."""
    try:
        pixels = decode_picture(picture.file())
    except UnreadablePicture as error:
        return Failure(picture.source, str(error))
    if picture.size not in (None, pixels.shape[:2]):
        (height, width), (told_height, told_width) = pixels.shape[:2], picture.size
        return Failure(picture.source, f"got {width}x{height} px; expected {told_width}x{told_height} px as recorded")
    return pixels


def channels_first(picture: np.ndarray) -> torch.Tensor:
    """Copy (H, W, 3) to a tensor (3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
