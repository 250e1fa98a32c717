"""Crops of real LQ images, for training the DDPM."""

from collections.abc import Callable
from typing import Any

from ddpm_pairs.data.crops import Crop, CroppedImages, stack


class LowQualityImages(CroppedImages):
    """Native crops of a folder of LQ images; nothing is resized.

    Training sample number i, counted over all ranks from the first step of the run, is a pure function of (seed, i).
    Every epoch visits each image once in a new order, and a resumed fit gets the same samples as an uninterrupted one.
    Batches are ``{"lq": (N, 3, S, S)}``, float32 RGB in [0, 1], in validation also with ``"key"``; loaders used without
    a Trainer return uint8 and ``"failures"``. An image that cannot be decoded is replaced by the next one in order and
    reported in ``failures``.

    Args:
        lq_dir: Folder of LQ images, searched recursively.
        crop_size: Side S of the crops in pixels; smaller images are padded by reflection.
        batch_size: Number of crops in the batch of one process.
        center_crop: Side in pixels of the center crop from which crops are taken; ``None`` uses whole images.
        flip: Whether to flip training crops horizontally with probability 1/2.
        val_dir: Folder of validation images; ``None`` splits them off ``lq_dir`` by the hash of their keys.
        val_fraction: Share of ``lq_dir`` used for validation, at least one image.
        num_workers: Number of loader processes per process of the trainer.
        seed: Seed of order, crops and flips in training; validation does not depend on it.

    Attributes:
        train_pictures: Images for training, after ``find()``.
        val_pictures: Images for validation, after ``find()``.

    Raises:
        UserError: If an option is out of range.
    """

    def __init__(
        self,
        lq_dir: str,
        crop_size: int = 64,
        batch_size: int = 16,
        center_crop: int | None = None,
        flip: bool = True,
        val_dir: str | None = None,
        val_fraction: float = 0.05,
        num_workers: int = 2,
        seed: int = 0,
    ) -> None:
        """Check the options; files are not read before ``find()``."""
        super().__init__(
            lq_dir,
            "--data.lq_dir",
            crop_size,
            batch_size,
            center_crop,
            flip,
            val_dir,
            val_fraction,
            num_workers,
            seed,
        )
        self.lq_dir = lq_dir

    def collate(self, training: bool) -> Callable[[list[Crop]], dict[str, Any]]:
        """Return a function that makes batches of ``lq`` and ``failures``, in validation also with ``key``."""
        return _without_keys if training else _with_keys

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Convert the crops from uint8 to [0, 1]."""
        batch["lq"] = batch["lq"].float().div_(255)
        return batch


def _without_keys(crops: list[Crop]) -> dict[str, Any]:
    lq, failures = stack(crops)
    return {"lq": lq, "failures": failures}


def _with_keys(crops: list[Crop]) -> dict[str, Any]:
    return _without_keys(crops) | {"key": [crop.key for crop in crops]}
