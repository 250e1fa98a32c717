"""Whole HQ images, for predict."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddpm_pairs.data.base import WholePictures
from ddpm_pairs.images.decode import decode_picture, is_plain_png
from ddpm_pairs.images.find import Picture, find_pictures


@dataclass(eq=False)
class Work:
    """The work on one HQ image, from its file to its pair. Each stage fills in its part.

    Attributes:
        key: Key of the pair.
        source: Path of the file relative to ``hq_dir``.
        path: The file.
        parameters: Parameters drawn by the degradation before the file is read.
        hq_preparation: Parameters drawn for the preparation of HQ.
        facts: Top-level fields of the manifest line that describe the draw.
        sha256: SHA-256 of exactly the bytes that were decoded.
        hq: uint8 ``(3, H, W)``, RGB: first the decoded image, then the HQ of the pair.
        png: The bytes of the file if they are a PNG of exactly ``hq``; see ``is_plain_png``.
        lq: The LQ of the pair, uint8 ``(3, H / scale, W / scale)``, on the CPU.
        record: The manifest line of the pair, without the hashes of its files.
    """

    key: str
    source: str
    path: Path | None = None
    parameters: dict[str, Any] | None = None
    hq_preparation: dict[str, Any] | None = None
    facts: dict[str, Any] | None = None
    sha256: str = ""
    hq: Tensor | None = None
    png: bytes | None = None
    lq: Tensor | None = None
    record: dict[str, Any] | None = None

    def load(self) -> "Work":
        """Read the file once, and hash and decode the same bytes. Runs in a loader process."""
        data = self.path.read_bytes()
        self.sha256 = hashlib.sha256(data).hexdigest()
        self.hq = torch.from_numpy(np.ascontiguousarray(decode_picture(data).transpose(2, 0, 1)))
        self.png = data if is_plain_png(data) else None
        return self


class HighQualityImages(WholePictures):
    """HQ images in batches of whole images of any size.

    A batch for predict is ``{"pictures": list[Work], "failures": list[Failure]}``: the decoded images, and those that
    could not be decoded. Either list may be empty. A rank without images gets one batch of two empty lists, so that
    all ranks run the same hooks.

    Args:
        hq_dir: Folder of HQ images, searched recursively.
        batch_size: Images per batch, if no batches were scheduled; ``None`` uses 8.
        num_workers: Loader processes for each process of the trainer.
        seed: Seed of the run; the images do not depend on it.

    Attributes:
        pictures: The images found, sorted by key, after ``find()``.
    """

    def __init__(self, hq_dir: str, batch_size: int | None = None, num_workers: int = 2, seed: int = 0) -> None:
        """Check the options; files are not read before ``find()``."""
        super().__init__(batch_size, num_workers, seed)
        self.hq_dir = hq_dir
        self.predict_batch_size = batch_size or 8

    def _find(self) -> None:
        self.pictures, self.failures = find_pictures(Path(self.hq_dir), "--data.hq_dir")

    @staticmethod
    def arrange(window: list[list[Picture]]) -> list[list[Work]]:
        """Wrap the images of each batch in ``Work``, with nothing drawn yet."""
        return [[Work(picture.key, picture.source, picture.path) for picture in batch] for batch in window]

    @staticmethod
    def load(work: Work) -> Work:
        """Load the image."""
        return work.load()
