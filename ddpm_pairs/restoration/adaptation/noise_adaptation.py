"""Noise-space adaptation: a diffusion denoiser pulls restored real images towards clean ones."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from ddpm_pairs.errors import UserError
from ddpm_pairs.images.pixels import resize_bicubic
from ddpm_pairs.restoration.adaptation.base import Adaptation
from ddpm_pairs.restoration.adaptation.noise_space import (
    LEVELS,
    Conditions,
    hinge,
    noised,
    ramp,
    residuals_swapped,
    shuffled,
    signal_levels,
)
from ddpm_pairs.run import Run
from ddpm_pairs.tensors import seed_of
from ddpm_pairs.training.optimizer import check_positive
from ddpm_pairs.training.ranks import mean_over_ranks
from ddpm_pairs.training.steps import generators, normal
from ddpm_pairs.training.watch import ShortcutWatch

CHOICES = {
    "mode": ("full", "clean", "vanilla"),
    "condition": ("both", "synthetic", "real"),
    "contrast": ("batch", "sample", "none"),
    "ramp_unit": ("epochs", "steps"),
}


class NoiseAdaptation(Adaptation):
    """Train a restorer on pairs and on real LQ images without HQ (Noise-DA, arXiv 2406.18516).

    A diffusion denoiser sees a noised clean image and, as conditions, a restored LQ image of a pair and a restored real
    LQ image. It predicts the noise better if the conditions look clean, so the gradient of its error through the
    conditions improves the restored real images. The denoiser is only used in training.

    The loss is the pixel loss of the pairs plus alpha times the adaptation loss. With e_plus, the denoiser's mean
    squared error, and e_minus, its error if both conditions carry the residual of the other image, the adaptation loss
    is (e_plus + max(0, e_plus - e_minus + margin)) / 2. Without contrast, it is e_plus. A residual is the restored
    image minus the input, enlarged bicubically to its size. Alpha rises to ``weight`` as weight (2 / (1 + exp(-5 p)) -
    1), where p grows from 0 to 1 during ``ramp``.

    Random numbers depend on the seed, the step, and the position in the global batch, so they are the same on any
    number of ranks and after resuming. The contrast ``batch`` is also computed over all ranks. Only dropout in the
    denoiser depends on the number of ranks.

    Logged are ``train/pixel``, ``train/e_plus``, ``train/e_minus``, ``train/contrast`` (the hinge), ``train/alpha``,
    and ``train/loss``. A warning is given if e_minus stays no larger than e_plus.

    Args:
        net: The restorer, see ``Restorer``.
        denoiser: ``forward(images, gamma)``, see ``ConditionalUNet``; ignored in mode ``vanilla``.
        mode: ``full``; ``clean``, which noises unpaired clean images instead of HQ and has no contrast; or ``vanilla``,
            which trains on the pairs alone, as ``Regression`` does.
        condition: Restored images that the denoiser gets: ``both``, ``synthetic`` (of pairs), or ``real``. With only
            one, the other is replaced by zeros.
        shuffle: Exchange the two conditions at random, so that the denoiser cannot tell them apart by their position.
        contrast: Average errors over the ``batch`` before the hinge, as published, or apply it to each ``sample``;
            ``none`` for no contrast.
        margin: Margin of the hinge.
        t_range: Numbers of steps, 1 to 1000, between which the noise level is drawn. After 1, 100, 500, 900, and 1000
            steps, the signal level is 0.999999, 0.9516, 0.2862, 0.0172, and 0.0066.
        adapted: Images of each batch on which the denoiser is trained, to save time; ``None`` for all.
        weight: Weight of the adaptation loss, of which the ramp reaches 98.7%.
        ramp: Length of the weight's rise.
        ramp_unit: ``epochs`` (passes over the training pairs, the first one counts as 1) or ``steps``.
        loss: Pixel loss: ``l1``, ``charbonnier``, or ``mse``, see ``Regression``.
        signed: Compute the losses on images in [-1, 1] instead of [0, 1]; for deraining and deblurring, as published.
        learning_rate: Adam's step size for restorer and denoiser.
        betas: Adam's.
        warmup_steps: Steps over which the learning rate rises linearly.
        cosine_decay: Let the learning rate decay along a half cosine to 1% at the trainer's ``max_steps``.
        init_from: Initialize the restorer from these weights; an RRDBNet may have another scale.
        tile: See ``Restorer``.
        overlap: See ``Restorer``.
        seed: Seed of noise, noise levels, and shuffling; the command line sets it to ``seed_everything``.

    Raises:
        UserError: If a value is out of range, options contradict each other, or weights do not fit.
    """

    def __init__(
        self,
        net: nn.Module,
        denoiser: nn.Module | None = None,
        mode: Literal["full", "clean", "vanilla"] = "full",
        condition: Literal["both", "synthetic", "real"] = "both",
        shuffle: bool = True,
        contrast: Literal["batch", "sample", "none"] = "batch",
        margin: float = 0.1,
        t_range: tuple[int, int] = (1, 1000),
        adapted: int | None = None,
        weight: float = 0.2,
        ramp: int = 300,
        ramp_unit: Literal["epochs", "steps"] = "epochs",
        loss: Literal["l1", "charbonnier", "mse"] = "charbonnier",
        signed: bool = False,
        learning_rate: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        warmup_steps: int = 0,
        cosine_decay: bool = False,
        init_from: str | None = None,
        tile: int | None = 256,
        overlap: int = 32,
        seed: int = 0,
    ) -> None:
        chosen = {"mode": mode, "condition": condition, "contrast": contrast, "ramp_unit": ramp_unit}
        for name, value in chosen.items():
            if value not in CHOICES[name]:
                raise UserError(f"--model.{name}: got {value!r}; expected {', '.join(CHOICES[name])}")
        numbers = {"margin": margin, "weight": weight, "ramp": ramp, "adapted": 1 if adapted is None else adapted}
        for name, value in numbers.items():
            check_positive(f"--model.{name}", value)
        steps = LEVELS.num_train_timesteps
        if not 1 <= t_range[0] < t_range[1] <= steps:
            raise UserError(f"--model.t_range: got {list(t_range)}; expected two increasing numbers from 1 to {steps}")
        if mode != "vanilla" and denoiser is None:
            raise UserError(f"--model.denoiser: got none; mode {mode} needs one, such as ConditionalUNet")
        contrast = contrast if mode == "full" else "none"
        if condition != "both" and (shuffle or contrast != "none"):
            raise UserError(
                f"--model.condition: got {condition}; shuffling and contrast need both; set --model.shuffle false and "
                "--model.contrast none"
            )
        super().__init__(
            net, loss, signed, learning_rate, betas, warmup_steps, cosine_decay, init_from, tile, overlap, seed
        )
        self.denoiser = None if mode == "vanilla" else denoiser
        self.mode, self.condition, self.shuffle = mode, condition, shuffle
        self.contrast, self.margin, self.t_range = contrast, margin, tuple(t_range)
        self.adapted, self.weight, self.ramp, self.ramp_unit = adapted, weight, ramp, ramp_unit
        self.watch = ShortcutWatch()

    def needs(self) -> tuple[str, ...]:
        """Return the unpaired images in batches that the mode needs."""
        return {"full": ("real",), "clean": ("real", "clean"), "vanilla": ()}[self.mode]

    def check_run(self, run: Run) -> None:
        """Check that the crops suit the denoiser, besides the checks of ``Adaptation``."""
        super().check_run(run)
        side, multiple = getattr(run.data, "crop_size", None), getattr(self.denoiser, "multiple", 1)
        if run.verb == "fit" and side is not None and side % multiple:
            raise UserError(f"--data.crop_size: got {side}; expected a multiple of {multiple} for --model.denoiser")

    def adaptation_loss(self, batch: dict[str, Any], restored: Tensor, draw: int) -> Tensor | None:
        """Compute the denoiser's loss times alpha; see the class.

        Args:
            batch: A training batch; in mode ``clean`` also with ``clean`` (N, 3, H, W).
            restored: Restored ``batch["lq"]``, (N, 3, H, W), float32.
            draw: Number of the batch, which seeds the random numbers.

        Returns:
            A scalar; ``None`` in mode ``vanilla``.
        """
        if self.mode == "vanilla":
            return None
        batch = {name: images[: self.adapted] for name, images in batch.items()}
        restored = restored[: self.adapted]
        images = Conditions(self.in_range(restored), self.in_range(self.net(batch["real"]).float()))
        enlarged = Conditions(*(self._enlarged(batch[name], restored) for name in ("lq", "real")))
        clean = self.in_range(batch["clean" if self.mode == "clean" else "hq"])
        rows = generators(self, "noise adaptation", len(clean), self.seed, draw)
        numbers = torch.stack([torch.rand(4, generator=row, device=row.device) for row in rows])
        gamma = signal_levels(LEVELS.alpha_bars_on(self.device), self.t_range, numbers[:, :2])
        noise = normal(rows, clean.shape[1:])
        seen = [(images, numbers[:, 2])]
        if self.contrast != "none":
            seen.append((residuals_swapped(images, enlarged), numbers[:, 3]))
        conditions = [self._slots(pair, number < 0.5) for pair, number in seen]
        seed = seed_of("dropout", self.seed, draw, self.global_rank)
        predicted = self._predicted(noised(clean, noise, gamma), conditions, gamma, seed)
        errors = [(noise - one).square().mean(dim=(1, 2, 3)) for one in predicted]
        alpha = self.alpha(draw)
        loss = self._combined(errors)
        self.log("train/alpha", alpha)
        return alpha * loss

    def _combined(self, errors: list[Tensor]) -> Tensor:
        """Compute the adaptation loss from e_plus and, with contrast, e_minus of each sample; log its parts."""
        plus = errors[0].mean()
        self.log("train/e_plus", plus.detach(), prog_bar=True)
        if self.contrast == "none":
            return plus
        difference = errors[0] - errors[1]
        mean = None if self.contrast == "sample" else mean_over_ranks(difference.detach().mean())
        contrast = hinge(difference, self.margin, mean)
        minus = errors[1].detach().mean()
        self.log_dict({"train/e_minus": minus, "train/contrast": contrast.detach()})
        self.watch.update(plus, minus)
        return (plus + contrast) / 2

    def alpha(self, draw: int) -> float:
        """Return the weight of the adaptation loss for batch number ``draw`` of the run."""
        step = draw // self.trainer.accumulate_grad_batches
        reached = step + 1 if self.ramp_unit == "steps" else self._epoch(draw)
        return self.weight * ramp(reached / self.ramp)

    def _epoch(self, draw: int) -> int:
        """Return the number of the current pass over the training pairs, from 1."""
        data = self.trainer.datamodule
        if not hasattr(data, "epoch_samples"):  # a finite loader of your own
            return self.trainer.current_epoch + 1
        return 1 + draw * data.batch_size * self.trainer.world_size // data.epoch_samples

    def _enlarged(self, lq: Tensor, restored: Tensor) -> Tensor:
        if self.net.scale > 1:
            lq = resize_bicubic(lq, tuple(restored.shape[-2:]))
        return self.in_range(lq)

    def _slots(self, images: Conditions, swap: Tensor) -> Tensor:
        """Concatenate the conditions (N, 6, H, W), exchanged if so drawn, and without the one that is left out."""
        if self.condition != "both":
            images = images._replace(
                **{name: torch.zeros_like(one) for name, one in images._asdict().items() if name != self.condition}
            )
        return torch.cat(shuffled(images, swap) if self.shuffle else images, dim=1)

    def _predicted(self, clean: Tensor, conditions: list[Tensor], gamma: Tensor, seed: int) -> list[Tensor]:
        """Predict the noise once for each of the conditions, in one call of the denoiser."""
        images = torch.cat([torch.cat([clean, one], dim=1) for one in conditions])
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed)  # of dropout
            predicted = self.denoiser(images, gamma.repeat(len(conditions)))
        return list(predicted.float().chunk(len(conditions)))
