"""Optimizer steps under manual optimization, averaged over the ranks, and the random numbers of a step."""

from collections.abc import Iterable
from contextlib import nullcontext

import lightning as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ParallelStrategy, Strategy
from torch import Tensor, nn

from ddpm_pairs.errors import UserError
from ddpm_pairs.seeding import seed_of
from ddpm_pairs.training.optimizer import Adam


def lazy_adam(groups: list[dict], betas: tuple[float, float], every: int | None, fused: bool) -> Adam:
    """Adam, slowed down to make up for the extra steps of a lazy regularization.

    Args:
        groups: Parameters with their learning rates.
        betas: For one step per iteration.
        every: Iterations between the steps of the regularization, or ``None`` without one. A share of
            k / (k + 1) of the learning rate, and betas to that power, keep the effect of an iteration the same
            (Karras et al. 2020, appendix B).
        fused: Whether to use Torch's fused kernel.
    """
    share = 1.0 if every is None else every / (every + 1)
    groups = [group | {"lr": group["lr"] * share} for group in groups]
    return Adam(groups, betas=(betas[0] ** share, betas[1] ** share), fused=fused)


def take_step(
    module: L.LightningModule, optimizer: LightningOptimizer, loss: Tensor, clip: float | None, counted: bool = False
) -> None:
    """One step of one optimizer under manual optimization, with gradients averaged over the ranks.

    Gradients are averaged here, once per step, because DDP's own reduction waits in every backward pass for the
    gradients of all parameters, and a step of one network produces only some of them.

    Args:
        module: The module being trained.
        optimizer: One of ``module.optimizers()``.
        loss: The loss to minimize.
        clip: Largest L2 norm of the gradients; ``None`` does not clip.
        counted: Whether the Trainer counts the step. Exactly one step per iteration is counted.
    """
    strategy = module.trainer.strategy
    optimizer.zero_grad()
    with strategy.block_backward_sync() if isinstance(strategy, ParallelStrategy) else nullcontext():
        module.manual_backward(loss)
    parameters = [one for group in optimizer.param_groups for one in group["params"] if one.grad is not None]
    average_gradients(parameters, strategy)
    if clip is not None:
        nn.utils.clip_grad_norm_(parameters, clip)
    (optimizer if counted else optimizer.optimizer).step()
    optimizer.zero_grad()
    torch.clear_autocast_cache()  # it holds the weights from before the step


def average_gradients(parameters: Iterable[nn.Parameter], strategy: Strategy) -> None:
    """Replace the gradients by their means over the ranks, in one collective."""
    gradients = [one.grad for one in parameters]
    if not isinstance(strategy, ParallelStrategy) or strategy.world_size == 1:
        return
    mean = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(mean)  # the strategy's reduce has a barrier, at which the host waits for the GPU
    mean /= strategy.world_size
    for gradient, part in zip(gradients, mean.split([one.numel() for one in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def generators(module: L.LightningModule, stream: str, n: int, seed: int, step: int) -> list[torch.Generator]:
    """Random generators for n images on the module's device, set by seed, stream, step and position in the batch.

    Position i of rank r of R is position i R + r of the whole batch, so all ranks together draw what one rank would.
    """
    rank, ranks = module.global_rank, module.trainer.world_size
    seeds = [seed_of(stream, seed, step, place * ranks + rank) for place in range(n)]
    return [torch.Generator(module.device).manual_seed(one) for one in seeds]


def normal(generators: list[torch.Generator], shape: tuple[int, ...]) -> Tensor:
    """Standard normal (N, *shape), one row per generator."""
    return torch.stack([torch.randn(shape, generator=one, device=one.device) for one in generators])


def check_precision(trainer: L.Trainer) -> None:
    """Refuse half precision, whose losses manual optimization does not scale.

    Raises:
        UserError: For a precision of 16 bits other than bfloat16.
    """
    if str(trainer.precision).startswith("16"):
        raise UserError(f"precision {trainer.precision} would need scaled losses: expected bf16-mixed or 32-true")
