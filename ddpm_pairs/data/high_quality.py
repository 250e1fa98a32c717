"""Whole HQ pictures, for predict."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from ddpm_pairs.data.endless import channels_first
from ddpm_pairs.data.scheduled import WholePictures
from ddpm_pairs.images.decode import decode_picture
from ddpm_pairs.images.find import Picture, find_pictures
from ddpm_pairs.images.plain_png import is_plain_png


@dataclass(eq=False)
class HighQualityPicture:
    """A decoded HQ picture.

    Attributes:
        key: the picture's key.
        source: the file's path relative to hq_dir.
        sha256: hex digest of the file's bytes, the very ones that were decoded.
        hq: uint8 (3, H, W), RGB.
        png: the file's bytes where it is a PNG of just these pixels, see `is_plain_png`; else None.
    """

    key: str
    source: str
    sha256: str
    hq: torch.Tensor
    png: bytes | None = None


class HighQualityImages(WholePictures):
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
        self.predict_batch_size = batch_size or 8

    def _find(self) -> None:
        self.pictures, self.failures = find_pictures(Path(self.hq_dir), "--data.hq_dir")

    @staticmethod
    def load(picture: Picture) -> HighQualityPicture:
        """Read the file once; hash and decode the same bytes."""
        data = picture.path.read_bytes()
        return HighQualityPicture(
            key=picture.key,
            source=picture.source,
            sha256=hashlib.sha256(data).hexdigest(),
            hq=channels_first(decode_picture(data)),
            png=data if is_plain_png(data) else None,
        )
