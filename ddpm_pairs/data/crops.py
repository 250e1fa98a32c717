"""Seeded native crops of a folder of pictures: an endless, resumable training stream and fixed validation crops."""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ddpm_pairs.data.base import PictureDataModule, require
from ddpm_pairs.data.decode import UnreadablePicture, decode_picture, read_size
from ddpm_pairs.data.pictures import Failure, Picture, find_pictures
from ddpm_pairs.data.samplers import EndlessSampler, StridedSampler
from ddpm_pairs.data.transforms import NativeCrop
from ddpm_pairs.seeding import seed_of

MIN_SIDE = 16
"""Pictures with a shorter side, in pixels, are left out: a crop would be mostly mirrored."""


class Crop(NamedTuple):
    """One sample.

    Attributes:
        pixels: uint8 (3, S, S), RGB.
        failures: pictures that could not be decoded and in whose place this one came.
        key: the picture's key.
        visit: how often the training stream has gone over all pictures before, from 0; 0 in validation.
    """

    pixels: Tensor
    failures: list[Failure]
    key: str
    visit: int


class CroppedImages(PictureDataModule):
    """Base of the DataModules that train on native crops; nothing is resized.

    Training sample number i, counted over all ranks from the first step of the run, is a pure function of (seed, i):
    every epoch visits each picture once in a new order, and a resumed fit goes on where the unbroken one would be. A
    picture that cannot be decoded is replaced by the next one in order and reported in `failures`.

    Args:
        folder: folder of pictures, searched with its subfolders.
        option: the command line option that named it, for the error texts.
        crop_size: side S of the crops, in pixels; smaller pictures are padded by reflection.
        batch_size: crops in a batch of one process.
        center_crop: side of the centre crop that crops are taken from, in pixels; None uses whole pictures.
        flip: mirror every other training crop, left to right.
        val_dir: folder of validation pictures; None splits them off, by the hash of their keys.
        val_fraction: share of the folder that is for validation; at least one picture is.
        num_workers: loader processes for each process of the trainer.
        seed: seed of order, crops and flips in training. Validation is the same for every seed.

    Attributes:
        train_pictures: pictures for training, after `find()`.
        val_pictures: pictures for validation, after `find()`.

    Raises:
        ValueError: an option is out of range.
    """

    def __init__(
        self,
        folder: str,
        option: str,
        crop_size: int,
        batch_size: int,
        center_crop: int | None,
        flip: bool,
        val_dir: str | None,
        val_fraction: float,
        num_workers: int,
        seed: int,
    ) -> None:
        """Check the options; files are not looked at before `find()`."""
        super().__init__(batch_size, num_workers, seed)
        require("--data.crop_size", crop_size, 1)
        if center_crop is not None and center_crop < crop_size:
            raise ValueError(f"--data.center_crop: got {center_crop}; give {crop_size} (--data.crop_size) or more")
        if not 0 <= val_fraction < 1:
            raise ValueError(f"--data.val_fraction: got {val_fraction}; give a share from 0 to below 1")
        self._folder, self._option = folder, option
        self.crop_size = crop_size
        self.center_crop = center_crop
        self.flip = flip
        self.val_dir = val_dir
        self.val_fraction = val_fraction
        self.train_pictures: list[Picture] = []
        self.val_pictures: list[Picture] = []

    @abstractmethod
    def collate(self, training: bool) -> Callable[[list[Crop]], dict[str, Any]]:
        """What makes a batch of crops, in a loader's process; `failures` must be in it, those of all crops."""

    def _find(self) -> None:
        pictures, failures = find_large_enough(self._folder, self._option)
        if self.val_dir is None:
            self.train_pictures, self.val_pictures = split(pictures, self.val_fraction)
        else:
            self.train_pictures = pictures
            self.val_pictures, more = find_large_enough(self.val_dir, "--data.val_dir")
            failures = failures + more
        self.failures = failures

    def setup(self, stage: str) -> None:
        """Look at the folders.

        Raises:
            ValueError: there are fewer validation pictures than ranks.
        """
        super().setup(stage)
        if len(self.val_pictures) < self.world_size:
            raise ValueError(
                f"--data.val_dir: {len(self.val_pictures)} validation pictures are too few for {self.world_size} "
                "ranks; use fewer devices, or give more pictures or a greater --data.val_fraction"
            )

    def train_dataloader(self) -> DataLoader:
        """Endless batches that begin at the trainer's step."""
        crop = NativeCrop(self.crop_size, self.center_crop, self.flip)
        return self._loader(
            _TrainingCrops(self.train_pictures, crop, self.seed),
            EndlessSampler(self._samples_drawn, self.rank, self.world_size),
            batch_size=self.batch_size,
            collate=self.collate(training=True),
            persistent=True,
        )

    def val_dataloader(self) -> DataLoader:
        """One crop a validation picture, fixed by its key; rank r has pictures r, r + world_size, ..."""
        crop = NativeCrop(self.crop_size, self.center_crop)
        return self._loader(
            _ValidationCrops(self.val_pictures, crop),
            StridedSampler(len(self.val_pictures), self.rank, self.world_size),
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


def stack(crops: list[Crop]) -> tuple[Tensor, list[Failure]]:
    """The pixels of some crops, uint8 (N, 3, S, S), and all their failures."""
    return torch.stack([crop.pixels for crop in crops]), [failure for crop in crops for failure in crop.failures]


def find_large_enough(folder: str, option: str) -> tuple[list[Picture], list[Failure]]:
    """Pictures below a folder whose headers can be read and whose sides are MIN_SIDE or more.

    Args:
        folder: folder to search.
        option: the command line option that named it, for the error texts.

    Returns:
        The pictures sorted by key, and the failures sorted by source.

    Raises:
        ValueError: see `find_pictures`; also where no picture is left.
    """
    found, failures = find_pictures(Path(folder), option)
    pictures = []
    for picture in found:
        try:
            height, width = read_size(picture.path)
        except UnreadablePicture as error:
            failures.append(Failure(picture.source, str(error)))
            continue
        if min(height, width) < MIN_SIDE:
            failures.append(Failure(picture.source, f"{width}x{height} pixels; sides of {MIN_SIDE} or more are needed"))
        else:
            pictures.append(picture)
    failures.sort(key=lambda failure: failure.source)
    if not pictures:
        first = next(f for f in failures if f.source == found[0].source)
        raise ValueError(
            f"{option}: none of the {len(found)} pictures in {folder!r} can be used "
            f"({first.source}: {first.reason}); give a folder of pictures"
        )
    return pictures, failures


def split(pictures: list[Picture], val_fraction: float) -> tuple[list[Picture], list[Picture]]:
    """Split into training and validation pictures, by the keys alone.

    A picture keeps its side when others are added or removed (but for the one that makes up for an empty side).

    Args:
        pictures: one or more pictures.
        val_fraction: expected share of validation pictures, in [0, 1).

    Returns:
        Training and validation pictures, one or more each; a single picture is both.
    """
    place = {p.key: seed_of("validation", p.key) / 2**63 for p in pictures}
    in_order = sorted(place.values())
    # Between the smallest and the greatest, so that no side is empty.
    threshold = min(max(val_fraction, in_order[0]), in_order[-2] if len(in_order) > 1 else 1.0)
    train = [p for p in pictures if place[p.key] > threshold]
    return train or pictures, [p for p in pictures if place[p.key] <= threshold]


class _TrainingCrops(Dataset):
    """Sample i for any i >= 0."""

    def __init__(self, pictures: list[Picture], crop: NativeCrop, seed: int) -> None:
        self.pictures = pictures
        self.crop = crop
        self.seed = seed

    def __getitem__(self, i: int) -> Crop:
        n = len(self.pictures)
        order = _order(self.seed, i // n, n)
        key, picture, failures = _first_readable(self.pictures[order[(i + k) % n]] for k in range(n))
        crop = self.crop(picture, seed_of(self.seed, "crop", i))
        return Crop(_channels_first(crop), failures, key, i // n)


class _ValidationCrops(Dataset):
    """The crop of picture j."""

    def __init__(self, pictures: list[Picture], crop: NativeCrop) -> None:
        self.pictures = pictures
        self.crop = crop

    def __getitem__(self, j: int) -> Crop:
        n = len(self.pictures)
        key, picture, failures = _first_readable(self.pictures[(j + k) % n] for k in range(n))
        return Crop(_channels_first(self.crop(picture, seed_of("validation crop", key))), failures, key, 0)


@lru_cache(maxsize=2)  # a batch touches two epochs at most, unless the folder is smaller than it
def _order(seed: int, epoch: int, n: int) -> np.ndarray:
    """The order of the n pictures in an epoch."""
    return np.random.default_rng(seed_of(seed, "order", epoch)).permutation(n)


def _first_readable(pictures: Iterable[Picture]) -> tuple[str, np.ndarray, list[Failure]]:
    """Key and pixels of the first picture that can be decoded, and the failures before it."""
    failures = []
    for picture in pictures:
        try:
            return picture.key, decode_picture(picture.path), failures
        except UnreadablePicture as error:
            failures.append(Failure(picture.source, str(error)))
    raise ValueError(f"none of the pictures can be decoded; the first, {failures[0].source}: {failures[0].reason}")


def _channels_first(crop: np.ndarray) -> torch.Tensor:
    """uint8 (S, S, 3) to (3, S, S)."""
    return torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1)))
