"""Crops of real LQ pictures, for training the DDPM."""

from collections.abc import Callable
from typing import Any

from ddpm_pairs.data.crops import Crop, CroppedImages, stack


class LowQualityImages(CroppedImages):
    """Native crops of a folder of LQ pictures; nothing is resized.

    Training sample number i, counted over all ranks from the first step of the run, is a pure function of (seed, i):
    every epoch visits each picture once in a new order, and a resumed fit goes on where the unbroken one would be.
    Batches are `{"lq": (N, 3, S, S)}`, float32 RGB in [0, 1], in validation with the pictures' `"key"`s beside it
    (loaders used without a Trainer give uint8 and the `"failures"`). A picture that cannot be decoded is replaced by
    the next one in order and reported in `failures`.

    Args:
        lq_dir: folder of LQ pictures, searched with its subfolders.
        crop_size: side S of the crops, in pixels; smaller pictures are padded by reflection.
        batch_size: crops in a batch of one process.
        center_crop: side of the centre crop that crops are taken from, in pixels; None uses whole pictures.
        flip: mirror every other training crop, left to right.
        val_dir: folder of validation pictures; None splits them off lq_dir, by the hash of their keys.
        val_fraction: share of lq_dir that is for validation; at least one picture is.
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
        """Check the options; files are not looked at before `find()`."""
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
        """Batches of `lq` and `failures`, in validation with `key`."""
        return _without_keys if training else _with_keys

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Bring the crops, sent as uint8, to [0, 1]."""
        batch["lq"] = batch["lq"].float().div_(255)
        return batch


def _without_keys(crops: list[Crop]) -> dict[str, Any]:
    lq, failures = stack(crops)
    return {"lq": lq, "failures": failures}


def _with_keys(crops: list[Crop]) -> dict[str, Any]:
    return _without_keys(crops) | {"key": [crop.key for crop in crops]}
