"""Crops of HQ images and of unrelated real LQ images, for learning a degradation."""

from collections.abc import Callable
from typing import Any

import cv2
import torch
from torch.utils.data import Dataset

from ddpm_pairs.data.crops import Crop
from ddpm_pairs.data.endless import StreamedImages, channels_first
from ddpm_pairs.data.high_quality_crops import HighQualityCrops
from ddpm_pairs.data.low_quality import LowQualityImages
from ddpm_pairs.errors import UserError
from ddpm_pairs.tensors import seed_of


class UnpairedCrops(StreamedImages):
    """Native crops of a folder of HQ images and, drawn independently, of a folder of real LQ images.

    LQ crops have the size that the scale gives HQ crops, so a degradation turns the first into images that a
    discriminator can compare with the second. Batches are ``{"hq": (N, 3, S, S), "lq": (N, 3, S / scale, S / scale),
    "key": list[str]}``, float32 RGB in [0, 1], with the keys of the HQ images; loaders used without a Trainer return
    uint8 and ``"failures"``. Training sample number i, counted over all ranks from the first step of the run, is a pure
    function of (seed, i); order and crops of the two folders are drawn from separate seeds. In validation, HQ image j
    comes with LQ image j, and the LQ images start again where there are fewer.

    For DSGAN's source domain (SDSR), both folders are the folder of real images.

    Args:
        hq_dir: Folder of HQ images, searched recursively.
        lq_dir: Folder of real LQ images, searched recursively.
        crop_size: Side S of the HQ crops in pixels, a multiple of ``scale``; smaller images are padded by reflection.
        scale: HQ sides over LQ sides.
        batch_size: Number of HQ crops, and of LQ crops, in the batch of one process.
        flip: Whether to flip training crops horizontally with probability 1/2.
        halved_lq: Also use real LQ images at half their size as HQ, as DSGAN's target domain (TDSR) and RealSR do:
            halving removes most of their degradation. Each image of both folders then has the same probability.
        val_fraction: Share of each folder used for validation, at least one image.
        num_workers: Number of loader processes per process of the trainer.
        seed: Seed of order, crops and flips in training; validation does not depend on it.

    Attributes:
        scale: HQ sides over LQ sides.
        crop_size: Side of the HQ crops.

    Raises:
        UserError: If an option is out of range.
    """

    def __init__(
        self,
        hq_dir: str,
        lq_dir: str,
        crop_size: int = 128,
        scale: int = 4,
        batch_size: int = 16,
        flip: bool = True,
        halved_lq: bool = False,
        val_fraction: float = 0.05,
        num_workers: int = 2,
        seed: int = 0,
    ) -> None:
        """Check the options; files are not read before ``find()``."""
        super().__init__(batch_size, val_fraction, num_workers, seed)
        if scale < 1:
            raise UserError(f"--data.scale: got {scale}; expected 1 or more")
        if crop_size % scale:
            raise UserError(f"--data.crop_size: got {crop_size}; expected a multiple of {scale}, the scale")
        self.hq_dir, self.lq_dir = hq_dir, lq_dir
        self.crop_size, self.scale = crop_size, scale
        shared = {"batch_size": batch_size, "flip": flip, "val_fraction": val_fraction, "num_workers": num_workers}
        self._hq = HighQualityCrops(hq_dir, crop_size, seed=seed, **shared)
        self._lq = LowQualityImages(lq_dir, crop_size // scale, seed=seed_of(seed, "real LQ"), **shared)
        self._lq.option_per_pixel = scale
        self._halved = None
        if halved_lq:
            self._halved = LowQualityImages(lq_dir, 2 * crop_size, seed=seed_of(seed, "halved LQ"), **shared)
            self._halved.option_per_pixel = 0.5

    def _find(self) -> None:
        parts = [part for part in (self._hq, self._lq, self._halved) if part is not None]
        for part in parts:
            part.find()
        self.failures = self._hq.failures + [one for one in self._lq.failures if one not in self._hq.failures]

    @property
    def epoch_samples(self) -> int:
        """Number of training images that serve as HQ, after ``find()``."""
        return self._hq.epoch_samples + (0 if self._halved is None else self._halved.epoch_samples)

    def training_samples(self) -> Dataset:
        """Return a dataset whose item i is an HQ crop and an LQ crop, for any i >= 0."""
        hq = self._hq.training_samples()
        if self._halved is not None:
            counts = [len(part.train_pictures) for part in (self._halved, self._hq)]
            hq = _Mixed(hq, self._halved.training_samples(), counts[0] / sum(counts), self.seed)
        return _Both(hq, self._lq.training_samples())

    def validation_samples(self) -> Dataset:
        """Return a dataset with one HQ crop per validation image, each with an LQ crop."""
        return _Both(self._hq.validation_samples(), self._lq.validation_samples())

    def collate(self, training: bool) -> Callable[[list[tuple[Crop, Crop]]], dict[str, Any]]:
        """Return a function that makes batches of ``hq``, ``lq``, ``key`` and ``failures``."""
        return _batch

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Convert the crops from uint8 to [0, 1]."""
        return batch | {name: batch[name].float().div_(255) for name in ("hq", "lq")}


class _Both(Dataset):
    """Crops of two datasets; the second starts again if it is shorter."""

    def __init__(self, hq: Dataset, lq: Dataset) -> None:
        self.hq, self.lq = hq, lq

    def __len__(self) -> int:
        return len(self.hq)

    def __getitem__(self, i: int) -> tuple[Crop, Crop]:
        return self.hq[i], self.lq[i % len(self.lq) if hasattr(self.lq, "__len__") else i]


class _Mixed(Dataset):
    """Crops of HQ images or, with probability ``share``, halved crops of LQ images."""

    def __init__(self, hq: Dataset, lq: Dataset, share: float, seed: int) -> None:
        self.hq, self.lq, self.share, self.seed = hq, lq, share, seed

    def __getitem__(self, i: int) -> Crop:
        if seed_of(self.seed, "halved", i) >= self.share * 2**63:
            return self.hq[i]
        crop = self.lq[i]
        side = crop.pixels.shape[-1] // 2
        halved = cv2.resize(crop.pixels.permute(1, 2, 0).numpy(), (side, side), interpolation=cv2.INTER_AREA)
        return crop._replace(pixels=channels_first(halved))


def _batch(samples: list[tuple[Crop, Crop]]) -> dict[str, Any]:
    hq, lq = zip(*samples, strict=True)
    return {
        "hq": torch.stack([crop.pixels for crop in hq]),
        "lq": torch.stack([crop.pixels for crop in lq]),
        "key": [crop.key for crop in hq],
        "failures": [failure for crop in (*hq, *lq) for failure in crop.failures],
    }
