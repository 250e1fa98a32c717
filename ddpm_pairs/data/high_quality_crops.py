"""Crops of HQ images without LQ, for training a prior."""

from collections.abc import Callable
from typing import Any

from ddpm_pairs.data.crops import Crop, CroppedImages, stack


class HighQualityCrops(CroppedImages):
    """Native crops of a folder of HQ images.

    Nothing is resized, so aligned faces of size ``crop_size`` are used as they are. Batches are
    ``{"hq": (N, 3, S, S), "key": list[str]}``, float32 RGB in [0, 1]; loaders used without a Trainer return uint8 and
    ``"failures"``. Order, crops and failures are as in ``CroppedImages``.

    Args:
        hq_dir: Folder of HQ images, searched recursively.
        crop_size: Side S of the crops in pixels; smaller images are padded by reflection.
        batch_size: Number of crops in the batch of one process.
        flip: Whether to flip training crops horizontally with probability 1/2.
        val_dir: Folder of validation images; ``None`` splits them off ``hq_dir`` by the hash of their keys.
        val_fraction: Share of ``hq_dir`` used for validation, at least one image.
        num_workers: Number of loader processes per process of the trainer.
        seed: Seed of order, crops and flips in training; validation does not depend on it.

    Raises:
        UserError: If an option is out of range.
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
        """Check the options; files are not read before ``find()``."""
        super().__init__(
            hq_dir, "--data.hq_dir", crop_size, batch_size, None, flip, val_dir, val_fraction, num_workers, seed
        )
        self.hq_dir = hq_dir

    def collate(self, training: bool) -> Callable[[list[Crop]], dict[str, Any]]:
        """Return a function that makes batches of ``hq``, ``key`` and ``failures``."""
        return _batch

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Convert the crops from uint8 to [0, 1]."""
        batch["hq"] = batch["hq"].float().div_(255)
        return batch


def _batch(crops: list[Crop]) -> dict[str, Any]:
    hq, failures = stack(crops)
    return {"hq": hq, "key": [crop.key for crop in crops], "failures": failures}
