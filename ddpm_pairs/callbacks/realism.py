"""How near synthesized LQ comes to the real pictures while the DDPM trains."""

from pathlib import Path
from typing import Literal

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
from ddpm_pairs.seeding import generator_for, seed_of

BATCH = 8


class Realism(Periodic):
    """Logs how far LQ made with the weights of validation lies from the real LQ pictures, every so many steps.

    The centres of the same HQ pictures are degraded, noised to one t and walked back each time, with the same draws;
    they are compared with as many native patches of the DDPM's own training and validation pictures. Logged are
    ``realism/fid192`` (lower is nearer), ``realism/power_gap`` (luminance power of the finest octave over the real
    one's, in dB: negative is too smooth) and, for comparison, what training does not change: ``realism/fid192_start``
    (of the handcrafted start) and ``realism/fid192_floor`` (real patches against real patches of other pictures, as
    many). For so few patches fid192 is far above zero even between real pictures: compare the three, not studies.

    One time costs ``pictures * num_steps`` evaluations of the network on ``patch`` px and ``pictures`` passes of
    Inception, the first time three times as many of these. With the defaults and the embedded DDPM (3.4 M parameters)
    that is 42 s on one CPU core, 28 s for the walks and 14 s for Inception. Rank 0 does it while the others wait.

    Args:
        hq_dir: HQ pictures, of which a seeded choice is taken.
        t: The step to walk back from.
        degradation: The start, as ``--model.degradation`` of ``predict`` takes it.
        scale: HQ sides over LQ sides; ``None`` uses the degradation's own, and 4 for a name.
        pictures: How many at most; as many as there are of ``patch * scale`` px or more a side.
        patch: LQ pixels a side.
        num_steps: Network evaluations a picture.
        every_n_steps: At the first validation after so many further steps.
        features: ``inception``, or ``random`` to try things out without weights.

    Raises:
        UserError: for values outside their range, an unknown degradation, or too few HQ pictures.
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
                raise UserError(f"Realism's {name} is {value}: expected {least} or more")
        super().__init__(every_n_steps)
        self.degradation = by_name(degradation, scale)
        scale = self.degradation.scale
        found, _ = find_pictures(Path(hq_dir), "Realism's hq_dir")
        self.hq = center_crops(decoded(_shuffled(found)), pictures, patch * scale)
        if len(self.hq) < LEAST_PICTURES:
            raise UserError(
                f"Realism found {len(self.hq)} pictures of {patch * scale} px or more a side in {hq_dir}: expected "
                f"{LEAST_PICTURES} or more, or give a smaller patch"
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
            UserError: for missing weights; it names the file, where to put it, and how to go without.
        """
        if self._network is None:
            self._network = Inception(weights_path(INCEPTION)) if self.features == "inception" else RandomFeatures()

    def check_against(self, module: DDPM, real: list[Picture]) -> None:
        """Compare with what the fit brings.

        Args:
            module: The DDPM.
            real: Real LQ pictures.

        Raises:
            UserError: if the DDPM is not trained at ``t``, its network does not take ``patch``, or too few pictures
                are as large.
        """
        if self.t > module.t_max:
            raise UserError(f"Realism's t is {self.t}, the DDPM is trained on t up to {module.t_max}: give less")
        if self.patch % (multiple := module.denoiser().multiple):
            raise UserError(f"Realism's patch is {self.patch}: the network takes multiples of {multiple} px")
        self._usable(real)

    def check_run(self, run: Run) -> None:
        """Check the weights, the DDPM and its images before any work.

        Raises:
            UserError: See ``check`` and ``check_against``; also for a fit of another module.
        """
        if run.verb != "fit":
            return
        if not hasattr(run.model, "denoiser"):
            raise UserError(f"Realism watches the training of a DDPM, --model is {type(run.model).__name__}")
        self.check()
        self.check_against(run.model, _pictures(run.data))

    def setup(self, trainer: L.Trainer, pl_module: DDPM, stage: str) -> None:
        """Check, unless that is done."""
        if stage == "fit":
            self.check()
            self.check_against(pl_module, _pictures(trainer.datamodule))

    def work(self, trainer: L.Trainer, module: DDPM) -> None:
        """Log what is measured."""
        with trainer.precision_plugin.val_step_context():
            found = self.measure(module, _pictures(trainer.datamodule))
        module.log_dict({f"realism/{name}": value for name, value in found.items()}, batch_size=1, rank_zero_only=True)

    @torch.no_grad()
    def measure(self, module: DDPM, real: list[Picture]) -> dict[str, float]:
        """What is logged, by name.

        Args:
            module: The DDPM.
            real: Real LQ pictures.
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
        """What stays the same: the handcrafted start, real patches, and the distances between these."""
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
        """Patches of two disjoint seeded choices of pictures, as many each as there are HQ crops."""
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
                f"Realism found {len(usable)} LQ pictures of {self.patch} px or more a side: give a smaller patch"
            )
        return usable[: 2 * len(self.hq)]

    def _features(self, pictures: Tensor, device: torch.device) -> Tensor:
        return extract(self._network, [part.to(device) for part in pictures.split(BATCH)])["fid192"]

    def _distance(self, pictures: Tensor, device: torch.device) -> float:
        return frechet_distance(self._features(pictures, device), self._real["features"])


def _pictures(data: L.LightningDataModule) -> list[Picture]:
    return [*data.train_pictures, *data.val_pictures]


def _shuffled(pictures: list[Picture]) -> list[Picture]:
    """In a seeded order, so that the first ones are a fair choice."""
    return sorted(pictures, key=lambda one: seed_of("realism", one.key))


def _smaller_side(picture: Picture) -> int:
    try:
        return min(read_size(picture.path))
    except UnreadablePicture:  # which the loader reports
        return 0
