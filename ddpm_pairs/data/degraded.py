"""Crops of HQ pictures that are degraded on the fly, for training a restorer on handcrafted pairs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ddpm_pairs.data.crops import Crop, CroppedImages, stack
from ddpm_pairs.degradations import Degradation, by_name
from ddpm_pairs.degradations.base import multiple_of, prepare
from ddpm_pairs.errors import UserError
from ddpm_pairs.pairset.records import variant_key
from ddpm_pairs.seeding import generator_for


class DegradedImages(CroppedImages):
    """Native crops of a folder of HQ pictures, each degraded anew at every visit, on the device and in a batch.

    Batches are `{"hq": (N, 3, S, S), "lq": (N, 3, S / scale, S / scale), "key": list[str]}`, float32 RGB in [0, 1].
    Training sample number i, counted over all ranks from the first step of the run, is a pure function of (seed, i): a
    resumed fit goes on where the unbroken one would be. The key of a picture's visit v in later epochs is `<key>~<v>`.
    LQ is what `predict` with `t_max` 0 makes of this HQ under this key and seed, bit for bit on the same kind of device
    where `batch_size` is its `slots` and the threads are as many.

    The parameters are drawn in the loader's processes. Loaders used without a Trainer give uint8 HQ, `parameters` and
    `preparation` in place of LQ, and the `failures`: pictures that could not be decoded, in whose place the next one
    came.

    Args:
        hq_dir: folder of HQ pictures, searched with its subfolders.
        degradation: as `--model.degradation` of `predict` takes it: a name, a class path, a YAML file, the weights of
            a learned degradation, or an object.
        crop_size: side S of the crops, in HQ pixels, a multiple of the degradation's scale; smaller pictures are padded
            by reflection.
        batch_size: crops in a batch of one process.
        hq_preparation: what is done to HQ first, such as `ddpm_pairs.degradations.HQPreparation`; None leaves it.
        flip: mirror every other training crop, left to right.
        val_dir: folder of validation pictures; None splits them off hq_dir, by the hash of their keys.
        val_fraction: share of hq_dir that is for validation; at least one picture is.
        num_workers: loader processes for each process of the trainer.
        seed: seed of order, crops, flips and degradations in training. Validation is the same for every seed.
        scale: HQ sides over LQ sides; None uses the degradation's own, and 4 for a name.

    Attributes:
        train_pictures: pictures for training, after `find()`.
        val_pictures: pictures for validation, after `find()`.
        scale: HQ sides over LQ sides, the degradation's.

    Raises:
        UserError: an option is out of range, or the degradation has no multiple that divides the crops.
    """

    def __init__(
        self,
        hq_dir: str,
        degradation: Degradation | str,
        crop_size: int = 256,
        batch_size: int = 16,
        hq_preparation: Degradation | None = None,
        flip: bool = True,
        val_dir: str | None = None,
        val_fraction: float = 0.05,
        num_workers: int = 2,
        seed: int = 0,
        scale: int | None = None,
    ) -> None:
        """Check the options; files are not looked at before `find()`."""
        super().__init__(
            hq_dir,
            "--data.hq_dir",
            crop_size,
            batch_size,
            None,
            flip,
            val_dir,
            val_fraction,
            num_workers,
            seed,
        )
        self.degradation = by_name(degradation, scale, "--data.scale")
        if crop_size % (multiple := multiple_of(self.degradation)):
            raise UserError(
                f"--data.crop_size: got {crop_size}; give a multiple of {multiple}, as the degradation needs"
            )
        self.hq_dir, self.scale = hq_dir, self.degradation.scale
        self.hq_preparation = hq_preparation

    def collate(self, training: bool) -> Callable[[list[Crop]], dict[str, Any]]:
        """Batches of `hq`, `key`, what was drawn for each picture, and `failures`."""
        return _Draws(self.degradation, self.hq_preparation, self.seed if training else "validation")

    @torch.no_grad()
    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Bring HQ, sent as uint8, to [0, 1], prepare and degrade it."""
        hq, preparation = batch["hq"].float().div_(255), batch["preparation"]
        prepare(self.degradation, hq.device)
        if self.hq_preparation is not None:
            hq = self.hq_preparation.apply(hq, preparation)
        return {"hq": hq, "lq": self.degradation.apply(hq, batch["parameters"]), "key": batch["key"]}


@dataclass(frozen=True)
class _Draws:
    """Makes a batch of crops and draws each picture's degradation, as `predict` does for the same seed and key."""

    degradation: Degradation
    hq_preparation: Degradation | None
    seed: int | str

    def __call__(self, crops: list[Crop]) -> dict[str, Any]:
        hq, failures = stack(crops)
        keys = [variant_key(crop.key, crop.visit) for crop in crops]
        preparation = None
        if self.hq_preparation is not None:
            preparation = [self.hq_preparation.draw(generator_for(self.seed, key, "hq")) for key in keys]
        parameters = [self.degradation.draw(generator_for(self.seed, key, "degradation")) for key in keys]
        return {"hq": hq, "key": keys, "preparation": preparation, "parameters": parameters, "failures": failures}
