"""An endless, resumable stream of training samples, and validation samples that never change."""

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
from ddpm_pairs.seeding import seed_of

Item = TypeVar("Item")
Read = TypeVar("Read")


class StreamedImages(PictureDataModule):
    """Base of the DataModules that train.

    Training sample number i, counted over all ranks from the first step of the run, is a pure function of i, so that a
    resumed fit goes on where the unbroken one would be.

    Args:
        batch_size: samples in a batch of one process.
        val_fraction: share of the pictures that is for validation.
        num_workers: loader processes for each process of the trainer.
        seed: seed of everything random in training.

    Raises:
        UserError: an option is out of range.
    """

    def __init__(self, batch_size: int, val_fraction: float, num_workers: int, seed: int) -> None:
        """Check the options; files are not looked at before `find()`."""
        super().__init__(batch_size, num_workers, seed)
        if not 0 <= val_fraction < 1:
            raise UserError(f"--data.val_fraction: got {val_fraction}; give a share from 0 to below 1")
        self.val_fraction = val_fraction

    @abstractmethod
    def training_samples(self) -> Dataset:
        """A dataset whose item i, for any i >= 0, is training sample number i."""

    @abstractmethod
    def validation_samples(self) -> Dataset:
        """A dataset with a length."""

    @abstractmethod
    def collate(self, training: bool) -> Callable[[list], dict[str, Any]]:
        """What makes a batch of samples, in a loader's process; `failures` must be in it, those of all samples."""

    def setup(self, stage: str) -> None:
        """Look at the folders.

        Raises:
            UserError: there are fewer validation pictures than ranks.
        """
        super().setup(stage)
        if stage in ("fit", "validate") and (n := len(self.validation_samples())) < self.world_size:
            raise UserError(
                f"--data.val_dir: {n} validation pictures are too few for {self.world_size} "
                "ranks; use fewer devices, or give more pictures or a greater --data.val_fraction"
            )

    def train_dataloader(self) -> DataLoader:
        """Endless batches that begin at the trainer's step."""
        return self._loader(
            self.training_samples(),
            EndlessSampler(self._samples_drawn, self.rank, self.world_size),
            batch_size=self.batch_size,
            collate=self.collate(training=True),
            persistent=True,
        )

    def val_dataloader(self) -> DataLoader:
        """The validation samples, each once; rank r has samples r, r + world_size, ..."""
        samples = self.validation_samples()
        return self._loader(
            samples,
            StridedSampler(len(samples), self.rank, self.world_size),
            batch_size=self.batch_size,
            collate=self.collate(training=False),
            persistent=True,
        )

    def on_before_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Collect the failures that came with a batch."""
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
    """Split into training and validation items, by their names alone.

    An item keeps its side when others are added or removed (but for the one that makes up for an empty side).

    Args:
        items: one or more, such as pictures.
        val_fraction: expected share of validation items, in [0, 1).
        name: the name of an item, by default its key; items of one name stay together.

    Returns:
        Training and validation items, one or more each; where there is a single name, all are both.
    """
    place = {name(item): seed_of("validation", name(item)) / 2**63 for item in items}
    in_order = sorted(place.values())
    # Between the smallest and the greatest, so that no side is empty.
    threshold = min(max(val_fraction, in_order[0]), in_order[-2] if len(in_order) > 1 else 1.0)
    train = [item for item in items if place[name(item)] > threshold]
    return train or items, [item for item in items if place[name(item)] <= threshold]


@lru_cache(maxsize=8)  # a batch touches two epochs of a folder at most, unless the folder is smaller than it
def order_of(n: int, *parts: str | int) -> np.ndarray:
    """A permutation of n that the parts seed."""
    return np.random.default_rng(seed_of(*parts)).permutation(n)


def first_readable(items: Iterable[Item], read: Callable[[Item], Read | Failure]) -> tuple[Item, Read, list[Failure]]:
    """The first item that can be read, what was read, and the failures before it.

    Raises:
        UserError: there is none.
    """
    failures = []
    for item in items:
        found = read(item)
        if not isinstance(found, Failure):
            return item, found, failures
        failures.append(found)
    raise UserError(f"none of the pictures can be decoded; the first, {failures[0].source}: {failures[0].reason}")


def decode_or_failure(picture: Picture) -> np.ndarray | Failure:
    """A picture's pixels, uint8 (H, W, 3), or why it has none."""
    try:
        pixels = decode_picture(picture.file())
    except UnreadablePicture as error:
        return Failure(picture.source, str(error))
    if picture.size not in (None, pixels.shape[:2]):
        (height, width), (told_height, told_width) = pixels.shape[:2], picture.size
        return Failure(picture.source, f"it is {width}x{height} pixels, but was said to be {told_width}x{told_height}")
    return pixels


def channels_first(picture: np.ndarray) -> torch.Tensor:
    """(H, W, 3) to a tensor (3, H, W) of its own."""
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
