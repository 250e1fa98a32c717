"""Seeded native crops of a folder of images: an endless, resumable training stream and fixed validation crops."""

from collections.abc import Iterable
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
from ddpm_pairs.tensors import seed_of

MIN_SIDE = 16
"""Images with a shorter side, in pixels, are skipped, because most of a crop would be padding."""


class Crop(NamedTuple):
    """One sample.

    Attributes:
        pixels: uint8 (3, S, S), RGB.
        failures: Images that could not be decoded and were replaced by this one.
        key: The image's key.
        visit: Number of earlier passes of the training stream over all images; 0 in validation.
    """

    pixels: Tensor
    failures: list[Failure]
    key: str
    visit: int


class CroppedImages(StreamedImages):
    """Base of the DataModules that train on native crops; nothing is resized.

    Training sample number i, counted over all ranks from the first step of the run, is a pure function of (seed, i).
    Every epoch visits each image once in a new order, and a resumed fit gets the same samples as an uninterrupted one.
    An image that cannot be decoded is replaced by the next one in order and reported in ``failures``.

    Args:
        folder: Folder of images, searched recursively.
        option: The command-line option that named the folder, for error messages.
        crop_size: Side S of the crops in pixels; smaller images are padded by reflection.
        batch_size: Number of crops in the batch of one process.
        center_crop: Side in pixels of the center crop from which crops are taken; ``None`` uses whole images.
        flip: Whether to flip training crops horizontally with probability 1/2.
        val_dir: Folder of validation images; ``None`` splits them off by the hash of their keys.
        val_fraction: Share of the images used for validation, at least one image.
        num_workers: Number of loader processes per process of the trainer.
        seed: Seed of order, crops and flips in training; validation does not depend on it.

    Attributes:
        train_pictures: Images for training, after ``find()``.
        val_pictures: Images for validation, after ``find()``.
        option: The command-line option that named the folder, for error messages.
        option_per_pixel: Value of ``--data.crop_size`` per pixel of these crops, for error messages.

    Raises:
        UserError: If an option is out of range.
    """

    option_per_pixel: float = 1

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
        """Check the options; files are not read before ``find()``."""
        super().__init__(batch_size, val_fraction, num_workers, seed)
        require("--data.crop_size", crop_size, 1)
        if center_crop is not None and center_crop < crop_size:
            raise UserError(f"--data.center_crop: got {center_crop}; expected {crop_size} (--data.crop_size) or more")
        self._folder, self.option = folder, option
        self.crop_size = crop_size
        self.center_crop = center_crop
        self.flip = flip
        self.val_dir = val_dir
        self.train_pictures: list[Picture] = []
        self.val_pictures: list[Picture] = []

    def _find(self) -> None:
        pictures, failures = find_large_enough(self._folder, self.option)
        if self.val_dir is None:
            self.train_pictures, self.val_pictures = split(pictures, self.val_fraction)
        else:
            self.train_pictures = pictures
            self.val_pictures, more = find_large_enough(self.val_dir, "--data.val_dir")
            failures = failures + more
        self.failures = failures
        sizes = (read_size(picture.path) for picture in self.train_pictures)
        check_crop_size(self.crop_size, sizes, self.option, self.option_per_pixel)

    @property
    def epoch_samples(self) -> int:
        """Number of training images, after ``find()``."""
        return len(self.train_pictures)

    def training_samples(self) -> Dataset:
        """Return a dataset whose sample i is a random crop; the seed determines the order of images."""
        crop = NativeCrop(self.crop_size, self.center_crop, self.flip)
        return _TrainingCrops(self.train_pictures, crop, self.seed)

    def validation_samples(self) -> Dataset:
        """Return one crop per validation image, at a position determined by its key."""
        return _ValidationCrops(self.val_pictures, NativeCrop(self.crop_size, self.center_crop))


def stack(crops: list[Crop]) -> tuple[Tensor, list[Failure]]:
    """Stack crops into uint8 (N, 3, S, S), and collect their failures."""
    return torch.stack([crop.pixels for crop in crops]), [failure for crop in crops for failure in crop.failures]


def check_crop_size(crop_size: int, sizes: Iterable[tuple[int, int]], option: str, option_per_pixel: float = 1) -> None:
    """Check that at least one image is as large as a crop; otherwise all crops would be mostly padding.

    Args:
        crop_size: Side of the crops in pixels.
        sizes: (height, width) of the images; no more are read than necessary.
        option: The command-line option that named the folder, for the error message.
        option_per_pixel: Value of ``--data.crop_size`` per pixel of these crops, for the error message.

    Raises:
        UserError: If both sides of all images are shorter than ``crop_size``.
    """
    largest = 0
    for size in sizes:
        largest = max(largest, *size)
        if largest >= crop_size:
            return
    raise UserError(
        f"--data.crop_size: got {crop_size * option_per_pixel:g}; expected {largest * option_per_pixel:g} or less, as "
        f"the longest side of all images in {option} is {largest} px"
    )


def find_large_enough(folder: str, option: str) -> tuple[list[Picture], list[Failure]]:
    """Find the images below a folder that have a readable header and sides of ``MIN_SIDE`` or more.

    Args:
        folder: Folder to search.
        option: The command-line option that named the folder, for error messages.

    Returns:
        The images sorted by key, and the failures sorted by source.

    Raises:
        UserError: If no image can be used, or ``find_pictures`` raises it.
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
            failures.append(
                Failure(picture.source, f"got {width}x{height} px; expected {MIN_SIDE} px or more per side")
            )
        else:
            pictures.append(picture)
    failures.sort(key=lambda failure: failure.source)
    if not pictures:
        first = next(f for f in failures if f.source == found[0].source)
        raise UserError(
            f"{option}: none of the {len(found)} images in {folder!r} can be used "
            f"({first.source}: {first.reason}); give a folder of usable images"
        )
    return pictures, failures


class _TrainingCrops(Dataset):
    """Training crops; item i exists for every i >= 0."""

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
    """Validation crops; item j is the crop of image j."""

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
