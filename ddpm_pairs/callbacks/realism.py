"""Measure how close synthesized LQ is to real LQ while the DDPM trains."""

from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor

from ddpm_pairs.callbacks.periodic import Periodic
from ddpm_pairs.degradations import Degradation, by_name
from ddpm_pairs.degradations.walk import Sampling, synthesize
from ddpm_pairs.diffusion.module import DDPM
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.center_crops import center_crops, decoded
from ddpm_pairs.images.decode import UnreadablePicture, read_size
from ddpm_pairs.images.find import Picture, find_pictures
from ddpm_pairs.images.pixels import eight_bit
from ddpm_pairs.metrics.features import FeatureNetwork, Inception, RandomFeatures, extract
from ddpm_pairs.metrics.set_scores import LEAST_PICTURES, frechet_distance
from ddpm_pairs.metrics.texture import band_power, native_patches, power_gap_db
from ddpm_pairs.metrics.weights import INCEPTION, weights_path
from ddpm_pairs.run import Run
from ddpm_pairs.tensors import generator_for, seed_of

BATCH = 8


class Realism(Periodic):
    """Log the distance between real LQ and LQ synthesized with the validation weights, at regular intervals.

    Each time, center crops of the same HQ images are degraded, noised to ``t`` and denoised, with the same random
    parameters. The results are compared with the same number of native patches from the DDPM's training and validation
    images. The callback logs ``realism/fid192`` (lower is closer) and ``realism/power_gap`` (luminance power of the
    finest octave relative to the real images, in dB; negative means too smooth). For comparison it also logs two values
    that do not change during training: ``realism/fid192_start`` (of the handcrafted start) and
    ``realism/fid192_floor`` (between patches of disjoint sets of real images, of the same number). With so few patches,
    fid192 is far above zero even between real images. Compare these three values with each other, but not with those of
    a t study.

    Each measurement takes ``pictures * num_steps`` network evaluations on patches of ``patch`` px, and ``pictures``
    passes through Inception (three times as many in the first one). With the defaults and the embedded DDPM (3.4 M
    parameters), this takes 42 s on one CPU core: 28 s for the walks and 14 s for Inception. Rank 0 does the work while
    the others wait.

    Args:
        hq_dir: Folder of HQ images, from which a seeded choice is made.
        t: The step to which the initial LQ is noised.
        degradation: The start, as for ``--model.degradation`` of ``predict``.
        scale: HQ sides over LQ sides; ``None`` uses the degradation's own scale, or 4 if it is given by name.
        pictures: Maximum number of images; only those with sides of ``patch * scale`` px or more are used.
        patch: Side of an LQ patch in pixels.
        num_steps: Network evaluations per image.
        every_n_steps: Minimum number of steps between two measurements, which are made in validation.
        features: ``inception``, or ``random`` to try things without weights.

    Raises:
        UserError: If a value is out of range, the degradation is unknown, or there are too few HQ images.
    """

    def __init__(
        self,
        hq_dir: str,
        t: int = 100,
        degradation: Degradation | str = "real_esrgan",
        scale: int | None = None,
        pictures: int = 64,
        patch: int = 64,
        num_steps: int = 12,
        every_n_steps: int = 10000,
        features: Literal["inception", "random"] = "inception",
    ) -> None:
        for name, value, least in (("t", t, 1), ("every_n_steps", every_n_steps, 1), ("patch", patch, 16)):
            if value < least:
                raise UserError(f"Realism.{name}: got {value}; expected {least} or more")
        super().__init__(every_n_steps)
        self.degradation = by_name(degradation, scale)
        scale = self.degradation.scale
        found, _ = find_pictures(Path(hq_dir), "Realism.hq_dir")
        self.hq = center_crops(decoded(_shuffled(found)), pictures, patch * scale)
        if len(self.hq) < LEAST_PICTURES:
            raise UserError(
                f"Realism.hq_dir: got {len(self.hq)} images of {patch * scale} px or more per side in {hq_dir}; "
                f"expected {LEAST_PICTURES} or more; add larger images or reduce patch"
            )
        self.keys = [str(n) for n in range(len(self.hq))]
        self.parameters = [self.degradation.draw(generator_for(0, key, "degradation")) for key in self.keys]
        self.t, self.patch, self.features = t, patch, features
        self.sampling = Sampling(num_steps=num_steps)
        self._network: FeatureNetwork | None = None
        self._initial: Tensor | None = None
        self._real: dict[str, Tensor] = {}
        self._constant: dict[str, float] = {}

    def check(self) -> None:
        """Load the feature network.

        Raises:
            UserError: If weights are missing; the message names the file, where to put it, and how to do without it.
        """
        if self._network is None:
            self._network = Inception(weights_path(INCEPTION)) if self.features == "inception" else RandomFeatures()

    def check_against(self, module: DDPM, real: list[Picture]) -> None:
        """Check the settings against the DDPM and its images.

        Args:
            module: The DDPM.
            real: Real LQ images.

        Raises:
            UserError: If the DDPM is not trained at ``t``, its network does not support ``patch``, or too few images
                are large enough.
        """
        if self.t > module.t_max:
            raise UserError(f"Realism.t: got {self.t}; expected {module.t_max} or less, the t_max of the DDPM")
        if self.patch % (multiple := module.denoiser().multiple):
            raise UserError(
                f"Realism.patch: got {self.patch}; expected a multiple of {multiple} px, as the network requires"
            )
        self._usable(real)

    def check_run(self, run: Run) -> None:
        """Check the weights, the DDPM and its images before the run.

        Raises:
            UserError: See ``check`` and ``check_against``; also if another module than a DDPM is trained.
        """
        if run.verb != "fit":
            return
        if not hasattr(run.model, "denoiser"):
            raise UserError(f"Realism: got --model {type(run.model).__name__}; expected a DDPM")
        self.check()
        self.check_against(run.model, _pictures(run.data))

    def setup(self, trainer: L.Trainer, pl_module: DDPM, stage: str) -> None:
        """Load the feature network, unless it is loaded, and check the settings."""
        if stage == "fit":
            self.check()
            self.check_against(pl_module, _pictures(trainer.datamodule))

    def work(self, trainer: L.Trainer, module: DDPM, batch: Any) -> None:  # noqa: ANN401 - the base
        """Measure and log."""
        with trainer.precision_plugin.val_step_context():
            found = self.measure(module, _pictures(trainer.datamodule))
        module.log_dict({f"realism/{name}": value for name, value in found.items()}, batch_size=1, rank_zero_only=True)

    @torch.no_grad()
    def measure(self, module: DDPM, real: list[Picture]) -> dict[str, float]:
        """Return the values to log, by name.

        Args:
            module: The DDPM.
            real: Real LQ images.
        """
        self._network.to(module.device)
        if not self._constant:
            self._prepare(module.device, real)
        denoiser = module.denoiser()
        made = []
        for first in range(0, len(self.hq), BATCH):
            keys, initial = (part[first : first + BATCH] for part in (self.keys, self._initial))
            drawn = [
                {"t": self.t} | {name: seed_of(0, key, name) for name in ("noise_seed", "steps_seed")} for key in keys
            ]
            on_device = initial.to(module.device)
            made.append(synthesize(denoiser, on_device, drawn, self.sampling).float().cpu())
        pictures = eight_bit(torch.cat(made))
        gap = power_gap_db(band_power(pictures / 255), self._real["power"])[-1].item()
        return {"fid192": self._distance(pictures, module.device), "power_gap": gap} | self._constant

    def _prepare(self, device: torch.device, pictures: list[Picture]) -> None:
        """Compute everything that does not change: the handcrafted start, real patches, and their distances."""
        initial = [
            self.degradation.apply(self.hq[first : first + BATCH].to(device), self.parameters[first : first + BATCH])
            for first in range(0, len(self.hq), BATCH)
        ]
        self._initial = torch.cat(initial).cpu()
        first, second = self._real_patches(pictures)
        self._real = {"power": band_power(first), "features": self._features(eight_bit(first), device)}
        self._constant = {
            "fid192_start": self._distance(eight_bit(self._initial), device),
            "fid192_floor": self._distance(eight_bit(second), device),
        }

    def _real_patches(self, pictures: list[Picture]) -> list[Tensor]:
        """Cut patches from two disjoint seeded sets of images, each set with as many patches as there are HQ crops."""
        n, usable, parts = len(self.hq), self._usable(pictures), []
        for half in (usable[0::2], usable[1::2]):
            each = -(-n // len(half))
            read = (torch.from_numpy(pixels).permute(2, 0, 1).float() / 255 for pixels in decoded(half))
            parts.append(torch.cat([native_patches([one], n=each, seed=0, size=self.patch) for one in read])[:n])
        return parts

    def _usable(self, pictures: list[Picture]) -> list[Picture]:
        usable = [picture for picture in _shuffled(pictures) if _smaller_side(picture) >= self.patch]
        if len(usable) < 2:
            raise UserError(
                f"Realism: got {len(usable)} LQ images of {self.patch} px or more per side; expected 2 or more; "
                "reduce patch"
            )
        return usable[: 2 * len(self.hq)]

    def _features(self, pictures: Tensor, device: torch.device) -> Tensor:
        return extract(self._network, [part.to(device) for part in pictures.split(BATCH)])["fid192"]

    def _distance(self, pictures: Tensor, device: torch.device) -> float:
        return frechet_distance(self._features(pictures, device), self._real["features"])


def _pictures(data: L.LightningDataModule) -> list[Picture]:
    return [*data.train_pictures, *data.val_pictures]


def _shuffled(pictures: list[Picture]) -> list[Picture]:
    """Sort in a seeded order, so that the first ones are an unbiased choice."""
    return sorted(pictures, key=lambda one: seed_of("realism", one.key))


def _smaller_side(picture: Picture) -> int:
    try:
        return min(read_size(picture.path))
    except UnreadablePicture:  # the loader reports it
        return 0
