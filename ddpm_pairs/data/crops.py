"""Seeded native crops of a folder of pictures: an endless, resumable training stream and fixed validation crops."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ddpm_pairs.data.base import require
from ddpm_pairs.data.endless import StreamedImages, channels_first, decode_or_failure, first_readable, order_of, split
from ddpm_pairs.data.transforms import NativeCrop
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.decode import UnreadablePicture, read_size
from ddpm_pairs.images.find import Failure, Picture, find_pictures
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


class CroppedImages(StreamedImages):
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
        UserError: an option is out of range.
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
        super().__init__(batch_size, val_fraction, num_workers, seed)
        require("--data.crop_size", crop_size, 1)
        if center_crop is not None and center_crop < crop_size:
            raise UserError(f"--data.center_crop: got {center_crop}; give {crop_size} (--data.crop_size) or more")
        self._folder, self._option = folder, option
        self.crop_size = crop_size
        self.center_crop = center_crop
        self.flip = flip
        self.val_dir = val_dir
        self.train_pictures: list[Picture] = []
        self.val_pictures: list[Picture] = []

    def _find(self) -> None:
        pictures, failures = find_large_enough(self._folder, self._option)
        if self.val_dir is None:
            self.train_pictures, self.val_pictures = split(pictures, self.val_fraction)
        else:
            self.train_pictures = pictures
            self.val_pictures, more = find_large_enough(self.val_dir, "--data.val_dir")
            failures = failures + more
        self.failures = failures

    def training_samples(self) -> Dataset:
        """Sample i is a random crop of a picture of the seeded order."""
        crop = NativeCrop(self.crop_size, self.center_crop, self.flip)
        return _TrainingCrops(self.train_pictures, crop, self.seed)

    def validation_samples(self) -> Dataset:
        """One crop a validation picture, fixed by its key."""
        return _ValidationCrops(self.val_pictures, NativeCrop(self.crop_size, self.center_crop))


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
        UserError: see `find_pictures`; also where no picture is left.
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
        raise UserError(
            f"{option}: none of the {len(found)} pictures in {folder!r} can be used "
            f"({first.source}: {first.reason}); give a folder of pictures"
        )
    return pictures, failures


class _TrainingCrops(Dataset):
    """Sample i for any i >= 0."""

    def __init__(self, pictures: list[Picture], crop: NativeCrop, seed: int) -> None:
        self.pictures = pictures
        self.crop = crop
        self.seed = seed

    def __getitem__(self, i: int) -> Crop:
        n = len(self.pictures)
        order = order_of(n, self.seed, "order", i // n)
        picture, pixels, failures = first_readable(
            (self.pictures[order[(i + k) % n]] for k in range(n)), decode_or_failure
        )
        crop = self.crop(pixels, seed_of(self.seed, "crop", i))
        return Crop(channels_first(crop), failures, picture.key, i // n)


class _ValidationCrops(Dataset):
    """The crop of picture j."""

    def __init__(self, pictures: list[Picture], crop: NativeCrop) -> None:
        self.pictures = pictures
        self.crop = crop

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, j: int) -> Crop:
        n = len(self.pictures)
        candidates = (self.pictures[(j + k) % n] for k in range(n))
        picture, pixels, failures = first_readable(candidates, decode_or_failure)
        crop = self.crop(pixels, seed_of("validation crop", picture.key))
        return Crop(channels_first(crop), failures, picture.key, 0)
