"""Adam with optional warmup and cosine decay of the learning rate, and checks of its options and of the loss."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from ddpm_pairs.errors import UserError
from ddpm_pairs.training.learning_rate import WarmupDecay


class Adam(torch.optim.Adam):
    """torch's Adam that keeps its configured options, with its fused kernel made safe for clipping and other devices.

    A loaded state brings the moments only. torch's Adam would also load learning rates, betas and the other
    options, so that what was typed to resume a fit would have no effect.

    The fused kernel declares that it unscales gradients itself, in which case Lightning refuses to clip them; this
    class withdraws the declaration. The kernel also reads weights and state in memory order. A checkpoint from another
    device may contain state in another memory layout, which fails on a GPU and gives wrong numbers on a CPU. A loaded
    state is therefore copied into the layout of the weights.
    """

    def __init__(self, parameters: Iterable[Any], **options: object) -> None:
        super().__init__(parameters, **options)
        self._step_supports_amp_scaling = False

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state; see ``torch.optim.Optimizer.load_state_dict``.

        Raises:
            UserError: If the state is that of other parameters.
        """
        self._check_fits(state_dict)
        groups = [
            theirs | {name: value for name, value in ours.items() if name != "params"}
            for theirs, ours in zip(state_dict["param_groups"], self.param_groups, strict=True)
        ]
        super().load_state_dict(state_dict | {"param_groups": groups})
        for parameter, state in self.state.items():
            for name, value in state.items():
                if value.shape == parameter.shape and value.stride() != parameter.stride():
                    state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)

    def _check_fits(self, state_dict: dict[str, Any]) -> None:
        ours = [len(group["params"]) for group in self.param_groups]
        theirs = [len(group["params"]) for group in state_dict["param_groups"]]
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        moments = {number: state["exp_avg"].shape for number, state in state_dict["state"].items()}
        if ours != theirs or any(shape != parameters[number].shape for number, shape in moments.items()):
            raise UserError(
                f"--ckpt_path contains the optimizer of {theirs} parameters per learning rate, but the config has "
                f"{ours}; resume with the networks and --model.part_learning_rates of the checkpoint"
            )


def adam(
    parameters: Iterable[Any],
    trainer: L.Trainer,
    learning_rate: float,
    warmup_steps: int,
    cosine_decay: bool,
    betas: tuple[float, float] = (0.9, 0.99),
) -> dict[str, Any]:
    """Build Adam and its learning-rate schedule, in the form for ``configure_optimizers``.

    Args:
        parameters: The trained parameters.
        trainer: The Trainer; its ``max_steps`` is the length of the decay.
        learning_rate: Adam's step size.
        warmup_steps: Steps of linear warmup.
        cosine_decay: Whether to decay the learning rate along a half cosine, to 1% at ``max_steps``.
        betas: Adam's.

    Raises:
        UserError: If ``cosine_decay`` is set without ``max_steps``.
    """
    check_decay(cosine_decay, trainer)
    optimizer = Adam(parameters, lr=learning_rate, betas=betas, fused=True)
    scheduler = WarmupDecay(optimizer, warmup_steps, trainer.max_steps if cosine_decay else None)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def check_decay(cosine_decay: bool, trainer: L.Trainer) -> None:
    """Check that a decay has a length.

    Raises:
        UserError: If ``cosine_decay`` is set without ``max_steps``.
    """
    if cosine_decay and trainer.max_steps < 1:
        raise UserError(
            f"--trainer.max_steps: got {trainer.max_steps}; expected 1 or more, the length of --model.cosine_decay"
        )


def check_weights_type(trainer: L.Trainer) -> None:
    """Reject weights in a 16-bit type, which are too coarse to be updated or averaged.

    Raises:
        UserError: If the precision is ``bf16-true`` or ``16-true``.
    """
    if str(trainer.precision) in ("bf16-true", "16-true"):
        raise UserError(f"--trainer.precision: got {trainer.precision}; expected bf16-mixed or 32-true")


def check_positive(option: str, value: float) -> None:
    """Check a learning rate or another positive number.

    Raises:
        UserError: If it is not a positive finite number.
    """
    if not 0 < value < math.inf:
        raise UserError(f"{option}: got {value}; expected a positive number")


def check_weights(weights: dict[str, float]) -> None:
    """Check weights of losses, given by the names of their options.

    Raises:
        UserError: If one is negative or not finite.
    """
    for name, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise UserError(f"--model.{name}: got {weight}; expected 0 or more")


def check_schedule(learning_rate: float, warmup_steps: int) -> None:
    """Check the options of ``adam``.

    Raises:
        UserError: If one is out of range.
    """
    check_positive("--model.learning_rate", learning_rate)
    if warmup_steps < 0:
        raise UserError(f"--model.warmup_steps: got {warmup_steps}; expected 0 or more")


def check_finite(loss: Tensor, module: L.LightningModule, remedy: str, step: int | None = None) -> None:
    """Stop a fit whose loss is not finite.

    Args:
        loss: The loss, a scalar.
        module: The module being trained.
        remedy: The change to make before resuming, for the message.
        step: The current step; ``None`` takes it from the Trainer.

    Raises:
        UserError: If the loss is infinite or NaN.
    """
    if torch.isfinite(loss):
        return
    trainer = module.trainer
    step = trainer.global_step if step is None else step
    folders = [Path(one.dirpath) for one in trainer.checkpoint_callbacks if getattr(one, "dirpath", None)]
    saved = [folder / "last.ckpt" for folder in folders if (folder / "last.ckpt").is_file()]
    advice = f"resume from {saved[0]}" if saved else "nothing is saved yet; start again"
    raise UserError(f"the training loss became {loss.item()} at step {step}; {advice} with {remedy}")
