"""Pairs for training and testing a restorer, and LQ images to restore."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddpm_pairs.data.base import WholePictures, require
from ddpm_pairs.data.crops import check_crop_size
from ddpm_pairs.data.endless import StreamedImages, channels_first, split
from ddpm_pairs.data.pair_checks import check_pairs, read_sizes
from ddpm_pairs.data.pair_samples import Decodable, PairCrop, TrainingPairs, ValidationPairs, WholePairs
from ddpm_pairs.data.pair_shift import shifted_pairs
from ddpm_pairs.data.samplers import StridedSampler
from ddpm_pairs.data.transforms import PairedCrop
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.decode import decode_with_alpha
from ddpm_pairs.images.find import Picture, find_pictures
from ddpm_pairs.pairset.pairs import PicturePair
from ddpm_pairs.pairset.sources import find_pairs, tell_apart
from ddpm_pairs.plain_text import printable

NAMED_IN_WARNING = 5


@dataclass(eq=False)
class LowQualityPicture:
    """A decoded LQ image.

    Attributes:
        key: The image's key.
        source: The file's path relative to ``lq_dir``.
        lq: uint8 (3, h, w), RGB.
        alpha: uint8 (h, w), or ``None`` if the image is fully opaque.
    """

    key: str
    source: str
    lq: Tensor
    alpha: Tensor | None


class RestorationPairs(StreamedImages, WholePictures):
    """HQ-LQ pairs from one or more places, and LQ images without HQ for predict.

    Training and validation batches are ``{"hq": (N, 3, S, S), "lq": (N, 3, S / scale, S / scale), "key": list[str]}``,
    float32 RGB in [0, 1]; test batches are whole pairs, one at a time. Training sample number i, counted over all ranks
    from the first step of the run, is a pure function of (seed, i). Each place has its own epochs, in which every pair
    is visited once, and a resumed fit gets the same samples as an uninterrupted one. Validation uses center crops of
    pairs that are split off by a hash of their content, so copies of an image in several places and its variants
    ``<key>~1`` are always on the same side. A predict batch is
    ``{"pictures": list[LowQualityPicture], "failures": list[Failure]}``. Transparency is preserved; images with 16 bits
    per sample are failures.

    All image headers are read first (0.2 ms per pair), or the tar headers of packed pairs. HQ sides must be 1, 2 or 4
    times the LQ sides, with the same scale for all pairs; other pairs are failures. Before a fit, the shift of up to 64
    training pairs is estimated, and a warning names those shifted by more than one HQ pixel. Other pixels are only read
    when they are needed, unless ``psnr_floor`` requires the PSNR of pairs without a manifest. A pair that cannot be
    decoded is replaced by the next one in order (skipped in test) and reported in ``failures``. Each loader process
    keeps up to 512 MiB of decoded pairs in memory, because most of its time goes into decoding.

    Args:
        pairs_dir: One or more places of pairs: a pairs folder, the output of ``ddpm-pairs pack`` (which gives the same
            samples), a folder with ``hq/`` and ``lq/``, or a text file with lines ``<HQ path>, <LQ path>``; see
            ``ddpm_pairs.pairset.sources.find_pairs``. If a pairs folder is still being written, its finished pairs are
            used.
        lq_dir: Folder of LQ images to restore, searched recursively.
        mix: Share of training samples from each place of ``pairs_dir``, as positive weights; ``None`` uses the numbers
            of pairs.
        crop_size: Side S of the crops in HQ pixels, a multiple of the scale; smaller pairs are padded by reflection.
        batch_size: Number of crops in the batch of one process.
        include_rejected: Whether to use pairs that a manifest marks ``accepted: false``.
        psnr_floor: Minimum PSNR, in dB, between HQ and enlarged LQ; ``None`` accepts all pairs.
        flip: Whether to flip training crops horizontally with probability 1/2.
        rotate: Whether to rotate training crops by a random multiple of 90 degrees.
        val_dir: Place of validation pairs; ``None`` splits them off ``pairs_dir``.
        val_fraction: Share of ``pairs_dir`` used for validation, at least one pair.
        num_workers: Number of loader processes per process of the trainer.
        seed: Seed of order, crops, flips and rotations in training; validation does not depend on it.

    Attributes:
        scale: HQ sides over LQ sides, after ``find()``; ``None`` if there are no pairs.
        pairs: All pairs of ``pairs_dir``, sorted by key within each place, after ``find()``; these are the test pairs.
        train_pairs: Pairs for training, one list per place of ``pairs_dir``, after ``find()``.
        val_pairs: Pairs for validation, after ``find()``.
        rejected: Number of pairs skipped because they are marked ``accepted: false``.
        pictures: The LQ images of ``lq_dir``, sorted by key, after ``find()``.
        option: The command-line option that named ``pairs_dir``, for error messages.

    Raises:
        UserError: If an option is out of range.
    """

    option = "--data.pairs_dir"

    def __init__(
        self,
        pairs_dir: list[str] | str | None = None,
        lq_dir: str | None = None,
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
        super().__init__(batch_size, val_fraction, num_workers, seed)
        require("--data.crop_size", crop_size, 1)
        self._places = [pairs_dir] if isinstance(pairs_dir, str) else pairs_dir or []
        if mix is not None and (len(mix) != len(self._places) or not all(0 < share < math.inf for share in mix)):
            raise UserError(
                f"--data.mix: got {mix}; expected {len(self._places)} positive weights, one per --data.pairs_dir"
            )
        self.pairs_dir, self.lq_dir, self.val_dir = pairs_dir, lq_dir, val_dir
        self.mix, self.crop_size = mix, crop_size
        self.include_rejected, self.psnr_floor = include_rejected, psnr_floor
        self.flip, self.rotate = flip, rotate
        self.scale: int | None = None
        self.train_pairs: list[list[PicturePair]] = []
        self.pairs: list[PicturePair] = []
        self.val_pairs: list[PicturePair] = []
        self.rejected = 0
        self._shift_looked_at = False

    def _find(self) -> None:
        if not self._places and self.lq_dir is None:
            raise UserError("--data.pairs_dir: got none; expected pairs, or images to restore in --data.lq_dir")
        if self._places:
            self._find_pairs()
        if self.lq_dir is not None:
            self.pictures, failures = find_pictures(Path(self.lq_dir), "--data.lq_dir")
            self.failures = self.failures + failures

    def _find_pairs(self) -> None:
        found = tell_apart([find_pairs(place, self.option, self.include_rejected) for place in self._places])
        own_val = [] if self.val_dir is None else [find_pairs(self.val_dir, "--data.val_dir", self.include_rejected)]
        self.scale, kept, self.failures = check_pairs(found + own_val, self.psnr_floor)
        if self.crop_size % self.scale:
            raise UserError(f"--data.crop_size: got {self.crop_size}; expected a multiple of the scale, {self.scale}")
        places = kept[: len(found)]
        self.rejected = sum(one.rejected for one in found + own_val)
        self.pairs = [pair for place in places for pair in place]
        if own_val:
            self.train_pairs, self.val_pairs = places, kept[-1]
            return
        train, self.val_pairs = split(self.pairs, self.val_fraction, lambda pair: pair.content)
        train_keys = {pair.key for pair in train}
        self.train_pairs = [[pair for pair in place if pair.key in train_keys] for place in places]
        for place, one in zip(self.train_pairs, found, strict=True):
            if not place:
                raise UserError(
                    f"{self.option}: all pairs in {one.place!r} were assigned to validation; "
                    "add pairs, or set --data.val_dir"
                )

    def setup(self, stage: str) -> None:
        """Find the files, and before a fit, check the alignment of some pairs.

        Raises:
            UserError: If an option that this stage needs is missing, or there are fewer validation pairs than ranks.
        """
        if stage == "predict" and self.lq_dir is None:
            raise UserError("--data.lq_dir: got none; expected the folder of images to restore")
        if stage != "predict" and not self._places:
            raise UserError(f"--data.pairs_dir: got none; `{stage}` needs pairs")
        super().setup(stage)
        if stage == "fit":
            sizes = (sized.hq for pair in self.pairs for sized in read_sizes([pair])[0])
            check_crop_size(self.crop_size, sizes, self.option)
        if stage == "fit" and self.rank == 0 and not self._shift_looked_at:
            self._shift_looked_at = True
            self._warn_of_shift()

    def _warn_of_shift(self) -> None:
        shifted, estimated = shifted_pairs([pair for place in self.train_pairs for pair in place], self.seed)
        if shifted:
            some = [f"{printable(key)} ({down:+.1f}, {right:+.1f})" for key, (down, right) in shifted.items()]
            more = f" and {len(some) - NAMED_IN_WARNING} more" if len(some) > NAMED_IN_WARNING else ""
            warnings.warn(
                f"LQ appears shifted relative to HQ by more than 1 HQ pixel (down, right) in {len(shifted)} of "
                f"{estimated} checked pairs: {', '.join(some[:NAMED_IN_WARNING])}{more}; the estimate is uncertain for "
                "noisy or periodic images",
                stacklevel=2,
            )

    @property
    def epoch_samples(self) -> int:
        """Number of training pairs, after ``find()``."""
        return sum(len(place) for place in self.train_pairs)

    def training_samples(self) -> TrainingPairs:
        """Return a dataset whose sample i is a random crop; the seed determines the order of pairs."""
        shares = self.mix or [float(len(place)) for place in self.train_pairs]
        crop = PairedCrop(self.crop_size, self.scale, self.flip, self.rotate)
        return TrainingPairs(self.train_pairs, shares, crop, self.seed)

    def validation_samples(self) -> ValidationPairs:
        """Return the center crop of each validation pair."""
        return ValidationPairs(self.val_pairs, PairedCrop(self.crop_size, self.scale))

    def collate(self, training: bool) -> Callable[[list[PairCrop]], dict[str, Any]]:
        """Return a function that makes batches of ``hq``, ``lq``, ``key`` and ``failures``."""
        return _collate

    def test_dataloader(self) -> Decodable:
        """Return whole pairs in batches of 1; rank r gets pairs r, r + world_size, ..."""
        sampler = StridedSampler(len(self.pairs), self.rank, self.world_size)
        return Decodable(self._loader(WholePairs(self.pairs), sampler, batch_size=None), self.report)

    @staticmethod
    def load(picture: Picture) -> LowQualityPicture:
        """Decode an LQ image with its alpha channel."""
        rgb, alpha = decode_with_alpha(picture.path)
        alpha = None if alpha is None else torch.from_numpy(alpha.copy())
        return LowQualityPicture(picture.key, picture.source, channels_first(rgb), alpha)

    def on_before_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Collect the failures of a batch; a predict batch keeps them."""
        return batch if "pictures" in batch else super().on_before_batch_transfer(batch, dataloader_idx)

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Convert crops and whole pairs from uint8 to [0, 1]."""
        if "pictures" in batch:
            return batch
        return batch | {side: batch[side].float().div_(255) for side in ("hq", "lq")}


def _collate(crops: list[PairCrop]) -> dict[str, Any]:
    return {
        "hq": torch.stack([crop.hq for crop in crops]),
        "lq": torch.stack([crop.lq for crop in crops]),
        "key": [crop.key for crop in crops],
        "failures": [failure for crop in crops for failure in crop.failures],
    }
