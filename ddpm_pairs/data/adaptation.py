"""Pairs with real LQ images without HQ, for restorers that adapt to real LQ while they train."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Dataset

from ddpm_pairs.data.crops import Crop, CroppedImages
from ddpm_pairs.data.degraded import DegradedImages
from ddpm_pairs.data.endless import StreamedImages
from ddpm_pairs.data.high_quality_crops import HighQualityCrops
from ddpm_pairs.data.low_quality import LowQualityImages
from ddpm_pairs.data.pairs import RestorationPairs
from ddpm_pairs.degradations import Degradation
from ddpm_pairs.errors import UserError
from ddpm_pairs.tensors import seed_of


class WithUnpaired(StreamedImages):
    """Adds unpaired images to the batches of a DataModule of pairs, which is the next base of the class.

    Training batches also contain ``"real": (N, 3, S / scale, S / scale)`` and, with a folder of clean images,
    ``"clean": (N, 3, S, S)``, float32 RGB in [0, 1]. Both are native crops, which nothing resizes; smaller images are
    padded by reflection. They are drawn, flipped, and rotated independently of the pairs. Training sample number i is
    still a pure function of (seed, i). In validation, pair j comes with real image j, and the real images start again
    if there are fewer.

    Attributes:
        unpaired_dirs: The folders of unpaired images by their names in batches, ``real`` and ``clean``.
        rotate: Whether to rotate training crops by a random multiple of 90 degrees.
    """

    rotate: bool
    unpaired_dirs: dict[str, str]
    _unpaired: dict[str, CroppedImages]

    def _add(self, lq_dir: str | None, clean_dir: str | None) -> None:
        places = {"real": lq_dir, "clean": clean_dir}
        self.unpaired_dirs = {name: place for name, place in places.items() if place is not None}
        self._unpaired = {}

    def setup(self, stage: str) -> None:
        """Find the files.

        Raises:
            UserError: If files are missing or unusable, or a fit has no real images.
        """
        self.find()
        if stage in ("fit", "validate") and not self._unpaired:
            self._find_unpaired()
        super().setup(stage)

    def _find_unpaired(self) -> None:
        if "real" not in self.unpaired_dirs:
            raise UserError("--data.lq_dir: got none; expected a folder of real LQ images")
        shared = {"batch_size": self.batch_size, "flip": self.flip, "val_fraction": self.val_fraction}
        seeds = {name: seed_of(self.seed, name) for name in self.unpaired_dirs}
        places, side = self.unpaired_dirs, self.crop_size // self.scale
        self._unpaired = {"real": LowQualityImages(places["real"], side, seed=seeds["real"], **shared)}
        self._unpaired["real"].option_per_pixel = self.scale
        if "clean" in places:
            clean = HighQualityCrops(places["clean"], self.crop_size, seed=seeds["clean"], **shared)
            clean.option = "--data.clean_dir"
            self._unpaired["clean"] = clean
        for part in self._unpaired.values():
            part.find()
            self.failures = self.failures + [one for one in part.failures if one not in self.failures]

    def training_samples(self) -> Dataset:
        """Return a dataset whose sample i is a crop of a pair, one of a real image and, if any, one of a clean one."""
        parts = {
            name: _Turned(part.training_samples(), self.rotate, part.seed) for name, part in self._unpaired.items()
        }
        return _Joined(super().training_samples(), parts)

    def validation_samples(self) -> Dataset:
        """Return the validation pairs, each with a crop of a real image and, if any, of a clean one."""
        parts = {name: part.validation_samples() for name, part in self._unpaired.items()}
        return _Joined(super().validation_samples(), parts)

    def collate(self, training: bool) -> Callable[[list[tuple]], dict[str, Any]]:
        """Return a function that makes the batches of the pairs, with ``real`` and, if any, ``clean``."""
        return _Batches(super().collate(training))

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Convert the images from uint8 to [0, 1]."""
        unpaired = {name: batch[name].float().div_(255) for name in ("real", "clean") if name in batch}
        return super().on_after_batch_transfer(batch, dataloader_idx) | unpaired


class AdaptationImages(WithUnpaired, RestorationPairs):
    """Pairs and, drawn independently, real LQ images without HQ and clean images without LQ.

    Training batches are ``{"hq": (N, 3, S, S), "lq": (N, 3, S / scale, S / scale), "real": (N, 3, S / scale,
    S / scale), "key": list[str]}`` and, with ``clean_dir``, ``"clean": (N, 3, S, S)``, float32 RGB in [0, 1]; see
    ``WithUnpaired``. Test and predict are those of ``RestorationPairs``, and need no real images.

    Args:
        pairs_dir: One or more places of pairs, see ``RestorationPairs``.
        lq_dir: Folder of real LQ images, searched recursively; ``val_fraction`` of them are used for validation. In
            predict, the LQ images to restore.
        clean_dir: Folder of clean images, searched recursively; ``None`` for none.
        mix: As in ``RestorationPairs``, as are all that follow.
        crop_size: Side S of the crops in HQ pixels.
        batch_size: Number of pairs, of real crops, and of clean crops in the batch of one process.
        include_rejected: Whether to use rejected pairs.
        psnr_floor: Minimum PSNR of a pair in dB.
        flip: Whether to flip training crops.
        rotate: Whether to rotate training crops by a random multiple of 90 degrees.
        val_dir: Place of validation pairs.
        val_fraction: Share used for validation.
        num_workers: Number of loader processes per process of the trainer.
        seed: Seed of everything random in training.

    Attributes:
        unpaired_dirs: The folders of unpaired images by their names in batches, ``real`` and ``clean``.

    Raises:
        UserError: If an option is out of range.
    """

    def __init__(
        self,
        pairs_dir: list[str] | str | None = None,
        lq_dir: str | None = None,
        clean_dir: str | None = None,
        mix: list[float] | None = None,
        crop_size: int = 256,
        batch_size: int = 16,
        include_rejected: bool = False,
        psnr_floor: float | None = None,
        flip: bool = True,
        rotate: bool = True,
        val_dir: str | None = None,
        val_fraction: float = 0.05,
        num_workers: int = 2,
        seed: int = 0,
    ) -> None:
        """Check the options; files are not read before ``find()``."""
        super().__init__(
            pairs_dir,
            lq_dir,
            mix,
            crop_size,
            batch_size,
            include_rejected,
            psnr_floor,
            flip,
            rotate,
            val_dir,
            val_fraction,
            num_workers,
            seed,
        )
        self._add(lq_dir, clean_dir)


class DegradedAdaptationImages(WithUnpaired, DegradedImages):
    """HQ crops degraded on the fly and, drawn independently, real LQ images without HQ and clean images without LQ.

    Training batches are those of ``AdaptationImages``. Noise-DA learns denoising so, with ``gaussian_noise``. There is
    no test or predict; use a config with ``RestorationPairs``.

    Args:
        hq_dir: Folder of HQ images, see ``DegradedImages``.
        degradation: Makes LQ, see ``DegradedImages``.
        lq_dir: Folder of real LQ images, searched recursively; ``val_fraction`` of them are used for validation.
        clean_dir: Folder of clean images, searched recursively; ``None`` for none.
        crop_size: As in ``DegradedImages``, as are all that follow but ``rotate``.
        batch_size: Number of HQ crops, of real crops, and of clean crops in the batch of one process.
        hq_preparation: Applied to HQ first.
        flip: Whether to flip training crops.
        rotate: Whether to rotate training crops of unpaired images by a random multiple of 90 degrees.
        val_dir: Folder of validation images.
        val_fraction: Share used for validation.
        num_workers: Number of loader processes per process of the trainer.
        seed: Seed of everything random in training.
        scale: HQ sides over LQ sides.

    Attributes:
        unpaired_dirs: The folders of unpaired images by their names in batches, ``real`` and ``clean``.

    Raises:
        UserError: If an option is out of range.
    """

    def __init__(
        self,
        hq_dir: str,
        degradation: Degradation | str,
        lq_dir: str | None = None,
        clean_dir: str | None = None,
        crop_size: int = 256,
        batch_size: int = 16,
        hq_preparation: Degradation | None = None,
        flip: bool = True,
        rotate: bool = True,
        val_dir: str | None = None,
        val_fraction: float = 0.05,
        num_workers: int = 2,
        seed: int = 0,
        scale: int | None = None,
    ) -> None:
        """Check the options; files are not read before ``find()``."""
        super().__init__(
            hq_dir,
            degradation,
            crop_size,
            batch_size,
            hq_preparation,
            flip,
            val_dir,
            val_fraction,
            num_workers,
            seed,
            scale,
        )
        self.rotate = rotate
        self._add(lq_dir, clean_dir)


class _Joined(Dataset):
    """Samples of pairs, and crops of other datasets by name; those with a length start again if it is shorter."""

    def __init__(self, pairs: Dataset, parts: dict[str, Dataset]) -> None:
        self.pairs, self.parts = pairs, parts

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, i: int) -> tuple[Any, dict[str, Crop]]:
        crops = {name: part[i % len(part) if hasattr(part, "__len__") else i] for name, part in self.parts.items()}
        return self.pairs[i], crops


class _Turned(Dataset):
    """Crops rotated by a random multiple of 90 degrees."""

    def __init__(self, crops: Dataset, rotate: bool, seed: int) -> None:
        self.crops, self.rotate, self.seed = crops, rotate, seed

    def __getitem__(self, i: int) -> Crop:
        crop = self.crops[i]
        turns = seed_of(self.seed, "turn", i) % 4 if self.rotate else 0
        return crop._replace(pixels=crop.pixels.rot90(turns, (1, 2)).contiguous())


@dataclass(frozen=True)
class _Batches:
    """Batch the pairs, and add the other crops."""

    pairs: Callable[[list], dict[str, Any]]

    def __call__(self, samples: list[tuple[Any, dict[str, Crop]]]) -> dict[str, Any]:
        pairs, crops = zip(*samples, strict=True)
        batch = self.pairs(list(pairs))
        for name in crops[0]:
            batch[name] = torch.stack([one[name].pixels for one in crops])
            batch["failures"] = batch["failures"] + [failure for one in crops for failure in one[name].failures]
        return batch
