"""Crops of HQ images, degraded on the fly, for training a restorer on handcrafted pairs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ddpm_pairs.data.crops import Crop, CroppedImages, stack
from ddpm_pairs.degradations import Degradation, by_name
from ddpm_pairs.degradations.base import multiple_of, prepare
from ddpm_pairs.errors import UserError
from ddpm_pairs.pairset.records import variant_key
from ddpm_pairs.tensors import generator_for


class DegradedImages(CroppedImages):
    """Native crops of a folder of HQ images, degraded on the device in batches, with new parameters at every visit.

    Batches are ``{"hq": (N, 3, S, S), "lq": (N, 3, S / scale, S / scale), "key": list[str]}``, float32 RGB in [0, 1].
    Training sample number i, counted over all ranks from the first step of the run, is a pure function of (seed, i), so
    a resumed fit gets the same samples as an uninterrupted one. In later epochs, visit v of an image has the key
    ``<key>~<v>``. LQ is what ``predict`` with ``t_max`` 0 makes of this HQ with the same key and seed. It is
    bit-identical on the same type of device if ``batch_size`` equals the ``slots`` of ``predict`` and the number of
    threads is the same.

    The parameters are drawn in the loader processes. Loaders used without a Trainer return uint8 HQ, ``parameters`` and
    ``preparation`` instead of LQ, and ``failures``: the images that could not be decoded and were replaced by the next
    one.

    Args:
        hq_dir: Folder of HQ images, searched recursively.
        degradation: As for ``--model.degradation`` of ``predict``: a name, a class path, a YAML file, the weights of a
            learned degradation, or an object.
        crop_size: Side S of the crops in HQ pixels, a multiple of the degradation's ``multiple`` (by default its
            scale); smaller images are padded by reflection.
        batch_size: Number of crops in the batch of one process.
        hq_preparation: Applied to HQ first, such as ``ddpm_pairs.degradations.HQPreparation``; ``None`` for no
            preparation.
        flip: Whether to flip training crops horizontally with probability 1/2.
        val_dir: Folder of validation images; ``None`` splits them off ``hq_dir`` by the hash of their keys.
        val_fraction: Share of ``hq_dir`` used for validation, at least one image.
        num_workers: Number of loader processes per process of the trainer.
        seed: Seed of order, crops, flips and degradations in training; validation does not depend on it.
        scale: HQ sides over LQ sides; ``None`` uses the degradation's own scale, or 4 if it is given by name.

    Attributes:
        train_pictures: Images for training, after ``find()``.
        val_pictures: Images for validation, after ``find()``.
        scale: HQ sides over LQ sides, as in the degradation.

    Raises:
        UserError: If an option is out of range, or ``crop_size`` is not a multiple of the degradation's ``multiple``.
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
        """Check the options; files are not read before ``find()``."""
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
                f"--data.crop_size: got {crop_size}; expected a multiple of {multiple}, as the degradation requires"
            )
        self.hq_dir, self.scale = hq_dir, self.degradation.scale
        self.hq_preparation = hq_preparation

    def collate(self, training: bool) -> Callable[[list[Crop]], dict[str, Any]]:
        """Return a function that makes batches of ``hq``, ``key``, the parameters drawn per image, and ``failures``."""
        return _Draws(self.degradation, self.hq_preparation, self.seed if training else "validation")

    @torch.no_grad()
    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Convert HQ from uint8 to [0, 1], prepare it, and degrade it."""
        hq, preparation = batch["hq"].float().div_(255), batch["preparation"]
        prepare(self.degradation, hq.device)
        if self.hq_preparation is not None:
            hq = self.hq_preparation.apply(hq, preparation)
        return {"hq": hq, "lq": self.degradation.apply(hq, batch["parameters"]), "key": batch["key"]}


@dataclass(frozen=True)
class _Draws:
    """Batch crops and draw a degradation per image, as ``predict`` does for the same seed and key."""

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
