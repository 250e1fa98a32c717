"""Crops of HQ pictures alone, for training a prior."""

from collections.abc import Callable
from typing import Any

from ddpm_pairs.data.crops import Crop, CroppedImages, stack


class HighQualityCrops(CroppedImages):
    """Native crops of a folder of HQ pictures; nothing is resized, so aligned faces come as they are at their size.

    Batches are `{"hq": (N, 3, S, S), "key": list[str]}`, float32 RGB in [0, 1] (loaders used without a Trainer give
    uint8 and the `"failures"`). Order, crops and failures are those of `CroppedImages`.

    Args:
        hq_dir: folder of HQ pictures, searched with its subfolders.
        crop_size: side S of the crops, in pixels; smaller pictures are padded by reflection.
        batch_size: crops in a batch of one process.
        flip: mirror every other training crop, left to right.
        val_dir: folder of validation pictures; None splits them off hq_dir, by the hash of their keys.
        val_fraction: share of hq_dir that is for validation; at least one picture is.
        num_workers: loader processes for each process of the trainer.
        seed: seed of order, crops and flips in training. Validation is the same for every seed.

    Raises:
        UserError: an option is out of range.
    """

    def __init__(
        self,
        hq_dir: str,
        crop_size: int = 512,
        batch_size: int = 4,
        flip: bool = True,
        val_dir: str | None = None,
        val_fraction: float = 0.02,
        num_workers: int = 2,
        seed: int = 0,
    ) -> None:
        """Check the options; files are not looked at before `find()`."""
        super().__init__(
            hq_dir, "--data.hq_dir", crop_size, batch_size, None, flip, val_dir, val_fraction, num_workers, seed
        )
        self.hq_dir = hq_dir

    def collate(self, training: bool) -> Callable[[list[Crop]], dict[str, Any]]:
        """Batches of `hq`, `key` and `failures`."""
        return _batch

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Bring the crops, sent as uint8, to [0, 1]."""
        batch["hq"] = batch["hq"].float().div_(255)
        return batch


def _batch(crops: list[Crop]) -> dict[str, Any]:
    hq, failures = stack(crops)
    return {"hq": hq, "key": [crop.key for crop in crops], "failures": failures}
