"""Steps of manual optimization with gradients averaged over the ranks, and random numbers per step."""

from collections.abc import Iterable
from contextlib import nullcontext

import lightning as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ParallelStrategy, Strategy
from torch import Tensor, nn

from ddpm_pairs.errors import UserError
from ddpm_pairs.tensors import seed_of
from ddpm_pairs.training.optimizer import Adam


def lazy_adam(groups: list[dict], betas: tuple[float, float], every: int | None, fused: bool) -> Adam:
    """Return Adam, slowed to compensate for the extra steps of lazy regularization.

    Args:
        groups: Parameters with their learning rates.
        betas: Adam's betas for one step per iteration.
        every: Iterations k between regularization steps; ``None`` without regularization. The learning rate is
            multiplied by k / (k + 1), and the betas are raised to that power, which keeps the effect of an iteration
            the same (Karras et al. 2020, appendix B).
        fused: Whether to use torch's fused kernel.
    """
    share = 1.0 if every is None else every / (every + 1)
    groups = [group | {"lr": group["lr"] * share} for group in groups]
    return Adam(groups, betas=(betas[0] ** share, betas[1] ** share), fused=fused)


def take_step(
    module: L.LightningModule, optimizer: LightningOptimizer, loss: Tensor, clip: float | None, counted: bool = False
) -> None:
    """Take a step of one optimizer under manual optimization, with gradients averaged over the ranks.

    Gradients are averaged here, once per step. DDP's own reduction waits in every backward pass for the gradients of
    all parameters, but a step of one network produces only some of them.

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
    torch.clear_autocast_cache()  # it contains the weights from before the step


def average_gradients(parameters: Iterable[nn.Parameter], strategy: Strategy) -> None:
    """Replace the gradients with their means over the ranks, in one collective."""
    gradients = [one.grad for one in parameters]
    if not isinstance(strategy, ParallelStrategy) or strategy.world_size == 1:
        return
    mean = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(mean)  # the strategy's reduce has a barrier that makes the host wait for the GPU
    mean /= strategy.world_size
    for gradient, part in zip(gradients, mean.split([one.numel() for one in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def generators(module: L.LightningModule, stream: str, n: int, seed: int, step: int) -> list[torch.Generator]:
    """Return generators for n images on the module's device, seeded by seed, stream, step, and position in the batch.

    Position i on rank r of R is position i R + r in the global batch, so all ranks together draw the same numbers as a
    single rank.
    """
    rank, ranks = module.global_rank, module.trainer.world_size
    seeds = [seed_of(stream, seed, step, place * ranks + rank) for place in range(n)]
    return [torch.Generator(module.device).manual_seed(one) for one in seeds]


def normal(generators: list[torch.Generator], shape: tuple[int, ...]) -> Tensor:
    """Draw standard normal numbers (N, *shape), one row per generator."""
    return torch.stack([torch.randn(shape, generator=one, device=one.device) for one in generators])


def check_precision(trainer: L.Trainer) -> None:
    """Reject float16, because manual optimization does not scale losses.

    Raises:
        UserError: If the precision is float16.
    """
    if str(trainer.precision).startswith("16"):
        raise UserError(
            f"--trainer.precision: got {trainer.precision}, which needs loss scaling; expected bf16-mixed or 32-true"
        )
