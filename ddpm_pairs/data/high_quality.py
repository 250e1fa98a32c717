"""Whole HQ pictures, for predict."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from ddpm_pairs.data.base import PictureDataModule
from ddpm_pairs.data.decode import UnreadablePicture, decode_picture
from ddpm_pairs.data.pictures import Failure, Picture, find_pictures
from ddpm_pairs.data.samplers import StridedSampler


@dataclass(eq=False)
class HighQualityPicture:
    """A decoded HQ picture.

    Attributes:
        key: the picture's key.
        source: the file's path relative to hq_dir.
        sha256: hex digest of the file's bytes, the very ones that were decoded.
        hq: uint8 (3, H, W), RGB.
    """

    key: str
    source: str
    sha256: str
    hq: torch.Tensor


class HighQualityImages(PictureDataModule):
    """HQ pictures in batches of whole pictures of any size.

    A batch of predict is `{"pictures": list[HighQualityPicture], "failures": list[Failure]}`: what could be decoded
    and what could not. Either list may be empty, and a rank with nothing to do gets one batch of two empty lists, so
    that all ranks run the same hooks.

    Args:
        hq_dir: folder of HQ pictures, searched with its subfolders.
        batch_size: pictures in a batch where nothing was scheduled; None takes 8.
        num_workers: loader processes for each process of the trainer.
        seed: seed of the run; the pictures do not depend on it.

    Attributes:
        pictures: the pictures found, sorted by key, after `find()`.
    """

    def __init__(self, hq_dir: str, batch_size: int | None = None, num_workers: int = 2, seed: int = 0) -> None:
        """Check the options; files are not looked at before `find()`."""
        super().__init__(batch_size, num_workers, seed)
        self.hq_dir = hq_dir
        self.pictures: list[Picture] = []
        self._schedule: list[list[Picture]] | None = None

    def _find(self) -> None:
        self.pictures, self.failures = find_pictures(Path(self.hq_dir), "--data.hq_dir")

    def schedule(self, batches: list[list[Picture]]) -> None:
        """Set what predict loads.

        Args:
            batches: the batches of all ranks, in order; rank r loads batches r, r + world_size, ... May be empty.
        """
        self._schedule = batches

    def predict_dataloader(self) -> DataLoader:
        """This rank's batches of the schedule, or of all pictures in order."""
        batches = self._schedule
        if batches is None:
            size = self.batch_size or 8
            batches = [self.pictures[i : i + size] for i in range(0, len(self.pictures), size)]
        # A rank without a batch would skip the loop, hooks included, while the others wait for it there.
        share = batches[self.rank :: self.world_size] or [[]]
        return self._loader(_DecodedBatches(share), StridedSampler(len(share), 0, 1), batch_size=None)

    def transfer_batch_to_device(
        self, batch: dict[str, list[Any]], device: torch.device, dataloader_idx: int
    ) -> dict[str, list[Any]]:
        """Move the pixels; Lightning's own way stops at a frozen dataclass."""
        moved = [replace(picture, hq=picture.hq.to(device)) for picture in batch["pictures"]]
        return batch | {"pictures": moved}


class _DecodedBatches(Dataset):
    """Item i is batch i, decoded."""

    def __init__(self, batches: list[list[Picture]]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, i: int) -> dict[str, list[Any]]:
        pictures, failures = [], []
        for picture in self.batches[i]:
            try:
                pictures.append(_load(picture))
            except (UnreadablePicture, OSError) as error:
                failures.append(Failure(picture.source, getattr(error, "strerror", None) or str(error)))
        return {"pictures": pictures, "failures": failures}


def _load(picture: Picture) -> HighQualityPicture:
    """Read the file once; hash and decode the same bytes."""
    data = picture.path.read_bytes()
    hq = torch.from_numpy(decode_picture(data)).permute(2, 0, 1).contiguous()
    return HighQualityPicture(picture.key, picture.source, hashlib.sha256(data).hexdigest(), hq)
