"""One step of one of two networks that are trained against each other, under DDP too, and what it draws."""

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

REMEDY = "lower learning rates or with --model.gradient_clip 1.0"
"""Of a fit whose loss is no number; see ``ddpm_pairs.training.optimizer.check_finite``."""

PATH_DECAY = 0.01
"""How fast the running mean of the path lengths follows them."""


def adam(groups: list[dict], betas: tuple[float, float], every: int | None, fused: bool) -> Adam:
    """Adam, slowed where every so many iterations bring one more step of a regularisation.

    Args:
        groups: Parameters and their learning rates.
        betas: For one step an iteration.
        every: Iterations between the regularisation's steps; ``None`` without one. With it k/(k+1) of the learning rate
            and betas to that power leave what an iteration does as it was (Karras et al. 2020, appendix B).
        fused: Torch's fused kernel.
    """
    share = 1.0 if every is None else every / (every + 1)
    groups = [group | {"lr": group["lr"] * share} for group in groups]
    return Adam(groups, betas=(betas[0] ** share, betas[1] ** share), fused=fused)


def take_step(
    module: L.LightningModule, optimizer: LightningOptimizer, loss: Tensor, clip: float | None, counted: bool = False
) -> None:
    """One step of one optimizer of a module under manual optimization, the gradients averaged over the ranks.

    The ranks' gradients are averaged here, once a step, because DDP's own reduction waits in every backward pass for
    the gradients of all parameters, of which a step of one network has only some.

    Args:
        module: What is trained.
        optimizer: One of ``module.optimizers()``.
        loss: To be made smaller.
        clip: Greatest L2 norm of the gradients; ``None`` leaves them.
        counted: Whether the Trainer counts the step. One an iteration is, so that ``global_step``, ``max_steps``, the
            moving average and the checkpoints count iterations.
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
    torch.clear_autocast_cache()  # which holds the weights as they were before the step


def average_gradients(parameters: Iterable[nn.Parameter], strategy: Strategy) -> None:
    """Replace gradients by their means over the ranks, in one collective."""
    gradients = [one.grad for one in parameters]
    if not isinstance(strategy, ParallelStrategy) or strategy.world_size == 1:
        return
    mean = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(mean)  # the strategy's reduce has a barrier, at which the host waits for the GPU
    mean /= strategy.world_size
    for gradient, part in zip(gradients, mean.split([one.numel() for one in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def generators(module: L.LightningModule, stream: str, n: int, seed: int, step: int) -> list[torch.Generator]:
    """Generators on the module's device for n pictures, functions of seed, stream, step and place in the batch.

    Place i of rank r of R is place i R + r of the whole batch, so the ranks together draw what a single one would.
    """
    rank, ranks = module.global_rank, module.trainer.world_size
    seeds = [seed_of(stream, seed, step, place * ranks + rank) for place in range(n)]
    return [torch.Generator(module.device).manual_seed(one) for one in seeds]


def normal(generators: list[torch.Generator], shape: tuple[int, ...]) -> Tensor:
    """Standard normal (N, *shape), a row from each generator."""
    return torch.stack([torch.randn(shape, generator=one, device=one.device) for one in generators])


@torch.no_grad()
def follow(mean: Tensor, lengths: Tensor, strategy: Strategy) -> Tensor:
    """Let the running mean of path lengths follow those of a batch, over all ranks.

    Args:
        mean: The running mean, changed in place.
        lengths: (N,).
        strategy: The Trainer's.

    Returns:
        The new mean.
    """
    mean.lerp_(strategy.reduce(lengths.detach().mean(), reduce_op="mean"), PATH_DECAY)
    return mean.clone()


def check_precision(trainer: L.Trainer) -> None:
    """Refuse what manual optimization does not scale.

    Raises:
        UserError: for half precision.
    """
    if str(trainer.precision).startswith("16"):
        raise UserError(f"precision {trainer.precision} would need scaled losses: expected bf16-mixed or 32-true")
