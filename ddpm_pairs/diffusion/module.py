"""Training and validation loss of the DDPM."""

from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor, nn

from ddpm_pairs.differences import first_difference
from ddpm_pairs.diffusion.denoiser import Denoiser, network_spec
from ddpm_pairs.diffusion.loading import load_denoiser
from ddpm_pairs.diffusion.schedule import Schedule, add_noise, noise_like, training_target
from ddpm_pairs.errors import UserError
from ddpm_pairs.run import Run
from ddpm_pairs.shipped import weights_file
from ddpm_pairs.tensors import seed_of
from ddpm_pairs.training.optimizer import adam, check_decay, check_finite, check_schedule, check_weights_type

BANDS = 4


class BandLosses:
    """Running mean of a loss in equal bands of t, exact over batches and ranks.

    Args:
        t_max: The bands divide the table indices 0..t_max - 1.
        device: The device of the sums.
    """

    def __init__(self, t_max: int, device: torch.device) -> None:
        self.edges = [round(t_max * band / BANDS) for band in range(BANDS + 1)]
        self.sums = torch.zeros(2, BANDS, dtype=torch.float64, device=device)

    def update(self, losses: Tensor, index: Tensor) -> None:
        """Add the losses (N,) of N images at table indices (N,)."""
        inner = torch.tensor(self.edges[1:-1], device=index.device)
        band = torch.bucketize(index, inner, right=True)
        self.sums[0].index_add_(0, band, losses.double())
        self.sums[1].index_add_(0, band, torch.ones_like(losses, dtype=torch.float64))

    def compute(self, trainer: L.Trainer) -> dict[str, Tensor]:
        """Return the overall mean as ``loss`` and that of each band as ``loss_t<first>-<last>``, over all ranks."""
        sums, counts = trainer.strategy.reduce(self.sums, reduce_op="sum")
        means = {"loss": (sums.sum() / counts.sum()).float()}
        for band, (low, high) in enumerate(zip(self.edges[:-1], self.edges[1:], strict=True)):
            if counts[band] > 0:
                means[f"loss_t{low + 1}-{high}"] = (sums[band] / counts[band]).float()
        return means


class DDPM(L.LightningModule):
    """A denoising diffusion model of low-quality images (Ho et al. 2020, Algorithm 1; Yang et al. section 3.2).

    Batches are dicts with ``lq`` (N, 3, H, W), float32 in [0, 1]. Validation batches also contain ``key``, a list of
    names that seed the t and noise of each image, so that every validation uses the same ones.

    Args:
        net: Any ``nn.Module`` with ``forward(x_t, timestep) -> (N, 3, H, W)``. Optional with ``init_from``.
        schedule: ``linear``, ``cosine`` or ``sigmoid``.
        num_train_timesteps: T, the length of the schedule.
        t_max: Train only on t in 1..t_max; making pairs needs no larger t than the largest it uses. ``None`` trains on
            1..T.
        prediction_type: ``epsilon`` (the noise), ``v_prediction`` or ``sample`` (the clean image).
        loss: ``l1`` (as in the paper) or ``mse`` (as the theory of the samplers assumes).
        learning_rate: Learning rate of Adam; its betas are 0.9 and 0.99.
        warmup_steps: Steps over which the learning rate increases linearly.
        cosine_decay: Decay the learning rate along a half cosine to 1% at ``max_steps`` of the Trainer.
        init_from: Start from the weights of this checkpoint, export or diffusers folder, or of shipped weights by name.
        compile: Compile the network with ``torch.compile``.
        seed: Seed of t and noise; the command line sets it to ``seed_everything``.

    Raises:
        UserError: If a value is out of range, or ``init_from`` does not fit ``net``.
    """

    def __init__(
        self,
        net: nn.Module | None = None,
        schedule: Literal["linear", "cosine", "sigmoid"] = "cosine",
        num_train_timesteps: int = 1000,
        t_max: int | None = None,
        prediction_type: Literal["epsilon", "v_prediction", "sample"] = "epsilon",
        loss: Literal["l1", "mse"] = "l1",
        learning_rate: float = 8e-5,
        warmup_steps: int = 0,
        cosine_decay: bool = False,
        init_from: str | None = None,
        compile: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if loss not in ("l1", "mse"):
            raise UserError(f"--model.loss: got {loss!r}; expected l1 or mse")
        check_schedule(learning_rate, warmup_steps)
        levels = Schedule(schedule, num_train_timesteps)
        if init_from is not None:
            net = _initial_network(init_from, net, levels, prediction_type)
        elif net is None:
            raise UserError(
                "--model.net is missing; the DDPM needs a network (or --model.init_from with a trained one)"
            )
        denoiser = Denoiser(net, levels, prediction_type, t_max)
        self.net = denoiser.net
        self.schedule, self.prediction_type, self.t_max = levels, prediction_type, denoiser.t_max
        self.loss, self.learning_rate = loss, learning_rate
        self.warmup_steps, self.cosine_decay = warmup_steps, cosine_decay
        self.compile_network, self.seed = compile, seed
        self.losses: BandLosses | None = None

    def denoiser(self) -> Denoiser:
        """Return the current network as a ``Denoiser``; the weights are shared, not copied."""
        return Denoiser(self.net, self.schedule, self.prediction_type, self.t_max)

    def check_run(self, run: Run) -> None:
        """Check the decay, and that a checkpoint to resume from has the same network, schedule and objective.

        Raises:
            UserError: If it does not; the message names the first difference.
        """
        check_weights_type(run.trainer)
        if run.verb == "fit":
            check_decay(self.cosine_decay, run.trainer)
        if run.verb == "fit" and run.ckpt_path is not None:
            check_agreement(self.denoiser().spec(), run.ckpt_path, load_denoiser(run.ckpt_path, type(self.net)))

    def load_weights(self, path: str) -> None:
        """Load the weights of a checkpoint, an export or a diffusers folder, for ``validate`` and ``test``.

        Args:
            path: The checkpoint, export or folder.

        Raises:
            UserError: If the file is not a DDPM, or has another network, schedule or objective.
        """
        found = load_denoiser(path, type(self.net))
        asked = self.denoiser().spec()
        del asked["t_max"]  # the loss can be computed on any t, whatever the training used
        check_agreement(asked, path, found)
        self.net.load_state_dict(found.net.state_dict())

    def setup(self, stage: str) -> None:
        """Set the memory layout for fast convolutions, and compile in place, which keeps the names of the weights."""
        self.net.to(memory_format=_layout(self.trainer.strategy.root_device))
        if self.compile_network and stage == "fit":
            self.net.compile()

    def picture_losses(self, net: nn.Module, lq: Tensor, index: Tensor, noise: Tensor) -> Tensor:
        """Compute the loss of each image.

        Args:
            net: The network to evaluate: that of this module, or its average.
            lq: (N, 3, H, W) in [0, 1].
            index: Table indices (N,), int64.
            noise: Standard normal, (N, 3, H, W).

        Returns:
            (N,), float32.
        """
        alpha_bars = self.schedule.alpha_bars_on(lq.device)
        x_0 = lq * 2 - 1
        x_t = add_noise(x_0, noise, index, alpha_bars).contiguous(memory_format=_layout(lq.device))
        error = net(x_t, index).float() - training_target(x_0, noise, index, alpha_bars, self.prediction_type)
        return (error.abs() if self.loss == "l1" else error.square()).mean(dim=(1, 2, 3))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Compute the loss of ``batch["lq"]``.

        t and noise depend only on seed, global step, batch within the step, and rank, so a resumed fit repeats them.
        """
        lq = batch["lq"]
        part = batch_idx % self.trainer.accumulate_grad_batches
        generator = torch.Generator(self.device).manual_seed(
            seed_of("ddpm", self.seed, self.trainer.global_step, part, self.global_rank)
        )
        index = torch.randint(0, self.t_max, (len(lq),), generator=generator, device=self.device)
        noise = torch.randn(lq.shape, generator=generator, device=self.device)
        loss = self.picture_losses(self.net, lq, index, noise).mean()
        check_finite(loss, self, "a lower --model.learning_rate or with --trainer.gradient_clip_val 1.0")
        self.log("train/loss", loss.detach(), prog_bar=True)
        return loss

    def validation_draws(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Draw the table indices (N,) and noise (N, 3, H, W) of a validation batch from its keys."""
        lq = batch["lq"]
        generators = [torch.Generator().manual_seed(seed_of("ddpm", self.seed, key)) for key in batch["key"]]
        index = torch.stack([torch.randint(0, self.t_max, (), generator=g) for g in generators])
        return index.to(lq.device), noise_like(generators, tuple(lq.shape[1:])).to(lq.device)

    def new_losses(self) -> BandLosses:
        """Create an empty collection of losses for one validation."""
        return BandLosses(self.t_max, self.device)

    def add_losses(self, losses: BandLosses, net: nn.Module, batch: dict[str, Any]) -> None:
        """Add the losses of a validation batch, for the network of this module or its average."""
        index, noise = self.validation_draws(batch)
        losses.update(self.picture_losses(net, batch["lq"], index, noise), index)

    def on_validation_epoch_start(self) -> None:
        """Discard the previous validation."""
        self.losses = self.new_losses()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Add the losses of the current weights, which are those of the EMA if its callback is used."""
        self.add_losses(self.losses, self.net, batch)

    def on_validation_epoch_end(self) -> None:
        """Log ``val/loss`` and the loss of each band of t."""
        means = self.losses.compute(self.trainer)
        self.log("val/loss", means.pop("loss"), prog_bar=True)
        self.log_dict({f"val/{name}": value for name, value in means.items()})

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning accepts several forms
        """Configure Adam with betas (0.9, 0.99) and a learning rate with optional warmup and decay."""
        return adam(self.net.parameters(), self.trainer, self.learning_rate, self.warmup_steps, self.cosine_decay)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add a description of network, schedule and objective, so that the file is self-contained."""
        checkpoint["ddpm_pairs"] = self.denoiser().spec()


def check_agreement(asked: dict[str, Any], path: str, found: Denoiser) -> None:
    """Check that network, schedule and objective of a checkpoint are those of the config.

    Args:
        asked: The description from the config: a ``Denoiser.spec()``, or a part of one.
        path: The path of the checkpoint, for the message.
        found: The denoiser of the checkpoint.

    Raises:
        UserError: If they differ; the message names the first difference.
    """
    if different := first_difference(asked, found.spec()):
        name, wanted, held = different
        raise UserError(f"checkpoint {path} has {name} {held}, but the config has {wanted}; use the same config")


def _layout(device: torch.device) -> torch.memory_format:
    # On a CPU, channels_last speeds up convolutions less than it slows down the backward pass of GroupNorm.
    return torch.contiguous_format if device.type == "cpu" else torch.channels_last


def _initial_network(init_from: str, net: nn.Module | None, schedule: Schedule, prediction_type: str) -> nn.Module:
    start = load_denoiser(weights_file(init_from), None if net is None else type(net))
    for name, wanted, found in (
        ("schedule", schedule, start.schedule),
        ("prediction_type", prediction_type, start.prediction_type),
    ):
        if wanted != found:
            raise UserError(
                f"--model.init_from {init_from} has {name} {found}, but the config has {wanted}; use the same "
                f"--model.{name}"
            )
    if net is not None and network_spec(net) != network_spec(start.net):
        raise UserError(
            f"--model.init_from {init_from} contains a different network than --model.net; set --model.net null to use "
            "the one that it contains"
        )
    return start.net.train()
