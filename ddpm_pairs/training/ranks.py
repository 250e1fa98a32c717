"""Statistics of a batch that is spread over ranks, with exact gradients."""

from typing import Any

import torch
from torch import Tensor, distributed, nn


def rank_count() -> int:
    """Return the number of ranks that train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def mean_over_ranks(value: Tensor) -> Tensor:
    """Average a tensor over the ranks; its gradient is that of the average in the losses of all ranks.

    Without ranks, the tensor is returned as it is. All ranks must call this in the same order.
    """
    count = rank_count()
    return value if count == 1 else _Sum.apply(value) / count


class _Sum(torch.autograd.Function):
    """The sum over all ranks. Each rank's loss depends on the values of all, so gradients are summed as well."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:  # noqa: ANN401 - torch's signature
        total = value.detach().clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401
        return _Sum.apply(gradient)


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalization whose statistics in training are those of the batches of all ranks, on any device."""

    def forward(self, images: Tensor) -> Tensor:
        """Normalize (N, C, H, W) per channel."""
        ranks = rank_count()
        if not self.training or ranks == 1:
            return super().forward(images)
        exact = images.float() if images.dtype in (torch.bfloat16, torch.float16) else images
        mean = mean_over_ranks(exact.mean((0, 2, 3)))
        centered = exact - mean[:, None, None]
        variance = mean_over_ranks(centered.square().mean((0, 2, 3)))
        count = ranks * images.numel() // images.shape[1]
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            unbiased = variance * count / (count - 1)
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centered * scale[:, None, None] + self.bias[:, None, None]).to(images.dtype)
