"""Pairs to train and to test a restorer on, and LQ pictures to restore."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddpm_pairs.data.base import WholePictures, require
from ddpm_pairs.data.endless import StreamedImages, channels_first, split
from ddpm_pairs.data.pair_checks import check_pairs
from ddpm_pairs.data.pair_samples import Decodable, PairCrop, TrainingPairs, ValidationPairs, WholePairs
from ddpm_pairs.data.pair_shift import shifted_pairs
from ddpm_pairs.data.samplers import StridedSampler
from ddpm_pairs.data.transforms import PairedCrop
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.decode import decode_with_alpha
from ddpm_pairs.images.find import Picture, find_pictures
from ddpm_pairs.pairset.pairs import PicturePair
from ddpm_pairs.pairset.sources import find_pairs, tell_apart

NAMED_IN_WARNING = 5


@dataclass(eq=False)
class LowQualityPicture:
    """A decoded LQ picture.

    Attributes:
        key: the picture's key.
        source: the file's path relative to lq_dir.
        lq: uint8 (3, h, w), RGB.
        alpha: uint8 (h, w), or None where the picture is opaque throughout.
    """

    key: str
    source: str
    lq: Tensor
    alpha: Tensor | None


class RestorationPairs(StreamedImages, WholePictures):
    """HQ-LQ pairs of one or several places, and LQ pictures without HQ for predict.

    Batches of training and validation are `{"hq": (N, 3, S, S), "lq": (N, 3, S / scale, S / scale), "key": list[str]}`,
    float32 RGB in [0, 1]; those of test are whole pairs, one at a time. Training sample number i, counted over all
    ranks from the first step of the run, is a pure function of (seed, i): each place's pairs are visited once an epoch
    of its own, and a resumed fit goes on where the unbroken one would be. Validation looks at the central crop of pairs
    that are split off by the hash of what they show, so that one picture in several places, or its variants `<key>~1`,
    never stand on both sides. A batch of predict is `{"pictures": list[LowQualityPicture], "failures": list[Failure]}`;
    transparency is kept, pictures with 16 bits a sample are failures.

    Before the work all headers are read (0.2 ms a pair; those of the tar files where pairs are packed): HQ sides must
    be 1, 2 or 4 times those of LQ, the same for all pairs; others are failures. Before a fit the shift of up to 64
    training pairs is estimated, and those with more than one HQ pixel are warned of. Pixels of other pairs are not
    looked at before they are needed, unless `psnr_floor` asks for the PSNR of pairs without a manifest. What cannot be
    decoded is replaced by the next pair in order (left out in test) and reported in `failures`. A loader process keeps
    decoded pairs in memory, up to 512 MiB, since decoding takes most of its time.

    Args:
        pairs_dir: places of pairs: a pairs folder, what `ddpm-pairs pack` made of one (which gives the same samples), a
            folder with hq/ and lq/, or a text file of lines `<HQ path>, <LQ path>`; see
            `ddpm_pairs.pairset.sources.find_pairs`. A folder's finished pairs are taken while it is still being made.
        lq_dir: folder of LQ pictures to restore, searched with its subfolders.
        mix: share of training samples from each place of pairs_dir, as positive weights; None goes by the number of
            pairs.
        crop_size: side S of the crops, in HQ pixels, a multiple of the scale; smaller pairs are padded by reflection.
        batch_size: crops in a batch of one process.
        include_rejected: take pairs that a manifest marks `accepted: false` too.
        psnr_floor: leave out pairs whose HQ and enlarged LQ have a smaller PSNR, in dB; None takes all.
        flip: mirror every other training crop, left to right.
        rotate: turn training crops by a random multiple of 90 degrees.
        val_dir: place of validation pairs; None splits them off pairs_dir.
        val_fraction: share of pairs_dir that is for validation; at least one pair is.
        num_workers: loader processes for each process of the trainer.
        seed: seed of order, crops, flips and turns in training. Validation is the same for every seed.

    Attributes:
        scale: HQ sides over LQ sides, after `find()`; None where there are no pairs.
        pairs: all pairs of pairs_dir, sorted by key within each place, after `find()`; test goes over them.
        train_pairs: pairs for training, a list for each place of pairs_dir, after `find()`.
        val_pairs: pairs for validation, after `find()`.
        rejected: number of pairs left out because they are marked `accepted: false`.
        pictures: the LQ pictures of lq_dir, sorted by key, after `find()`.

    Raises:
        UserError: an option is out of range.
    """

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
        """Check the options; files are not looked at before `find()`."""
        super().__init__(batch_size, val_fraction, num_workers, seed)
        require("--data.crop_size", crop_size, 1)
        self._places = [pairs_dir] if isinstance(pairs_dir, str) else pairs_dir or []
        if mix is not None and (len(mix) != len(self._places) or not all(0 < share < math.inf for share in mix)):
            raise UserError(
                f"--data.mix: got {mix}; give {len(self._places)} positive weights, one for each place of pairs_dir"
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
            raise UserError("--data.pairs_dir: none was given; give pairs, or --data.lq_dir with pictures to restore")
        if self._places:
            self._find_pairs()
        if self.lq_dir is not None:
            self.pictures, failures = find_pictures(Path(self.lq_dir), "--data.lq_dir")
            self.failures = self.failures + failures

    def _find_pairs(self) -> None:
        found = tell_apart([find_pairs(place, "--data.pairs_dir", self.include_rejected) for place in self._places])
        own_val = [] if self.val_dir is None else [find_pairs(self.val_dir, "--data.val_dir", self.include_rejected)]
        self.scale, kept, self.failures = check_pairs(found + own_val, self.psnr_floor)
        if self.crop_size % self.scale:
            raise UserError(f"--data.crop_size: got {self.crop_size}; give a multiple of {self.scale}, the scale")
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
                    f"--data.pairs_dir: all pairs of {one.place!r} are split off for validation; "
                    "give more pairs, or --data.val_dir"
                )

    def setup(self, stage: str) -> None:
        """Look at the folders, and before a fit at the pixels of some pairs.

        Raises:
            UserError: what this stage needs was not given, or there are fewer validation pairs than ranks.
        """
        if stage == "predict" and self.lq_dir is None:
            raise UserError("--data.lq_dir: none was given; give the folder of pictures to restore")
        if stage != "predict" and not self._places:
            raise UserError(f"--data.pairs_dir: none was given; `{stage}` needs pairs")
        super().setup(stage)
        if stage == "fit" and self.rank == 0 and not self._shift_looked_at:
            self._shift_looked_at = True
            self._warn_of_shift()

    def _warn_of_shift(self) -> None:
        shifted, estimated = shifted_pairs([pair for place in self.train_pairs for pair in place], self.seed)
        if shifted:
            some = [f"{key} ({down:+.1f}, {right:+.1f})" for key, (down, right) in shifted.items()]
            more = f" and {len(some) - NAMED_IN_WARNING} more" if len(some) > NAMED_IN_WARNING else ""
            warnings.warn(
                f"LQ seems shifted against HQ by more than 1 HQ pixel (down, right) in {len(shifted)} of {estimated} "
                f"pairs looked at: {', '.join(some[:NAMED_IN_WARNING])}{more}; in noisy or periodic pictures the "
                "estimate is unsure",
                stacklevel=2,
            )

    def training_samples(self) -> TrainingPairs:
        """Sample i is a random crop of a pair of the seeded order."""
        shares = self.mix or [float(len(place)) for place in self.train_pairs]
        crop = PairedCrop(self.crop_size, self.scale, self.flip, self.rotate)
        return TrainingPairs(self.train_pairs, shares, crop, self.seed)

    def validation_samples(self) -> ValidationPairs:
        """The central crop of each validation pair."""
        return ValidationPairs(self.val_pairs, PairedCrop(self.crop_size, self.scale))

    def collate(self, training: bool) -> Callable[[list[PairCrop]], dict[str, Any]]:
        """Batches of `hq`, `lq`, `key` and `failures`."""
        return _collate

    def test_dataloader(self) -> Decodable:
        """Whole pairs in batches of 1; rank r has pairs r, r + world_size, ..."""
        sampler = StridedSampler(len(self.pairs), self.rank, self.world_size)
        return Decodable(self._loader(WholePairs(self.pairs), sampler, batch_size=None), self.report)

    @staticmethod
    def load(picture: Picture) -> LowQualityPicture:
        """Decode an LQ picture with its transparency."""
        rgb, alpha = decode_with_alpha(picture.path)
        alpha = None if alpha is None else torch.from_numpy(alpha.copy())
        return LowQualityPicture(picture.key, picture.source, channels_first(rgb), alpha)

    def on_before_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Collect the failures that came with a batch; those of predict stay in it."""
        return batch if "pictures" in batch else super().on_before_batch_transfer(batch, dataloader_idx)

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Bring crops and whole pairs, sent as uint8, to [0, 1]."""
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
