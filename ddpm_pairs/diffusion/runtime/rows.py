"""Whether rows of a batch are independent of each other on this machine."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ddpm_pairs.errors import UserError


def whole_multiple(side: int, multiple: int) -> int:
    """A side that the network takes: ``side`` rounded down to a multiple, one at least."""
    return max(side // multiple, 1) * multiple


def noise_batch(shape: Sequence[int], t_max: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Noise to try a denoiser with, the same on every machine: x_t of ``shape``, and table indices below ``t_max``."""
    x_t = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    return x_t.to(device), (torch.arange(shape[0]) % t_max).to(device)


@torch.inference_mode()
def check_rows(predict: Callable[[Tensor, Tensor], Tensor], x_t: Tensor, index: Tensor, how: str) -> None:
    """Try whether a picture's result depends on its neighbours: a batch, and the same batch reversed.

    Args:
        predict: The denoiser.
        x_t: The batch, (N, 3, H, W), all pictures different.
        index: Its table indices, (N,), all different.
        how: How the network runs, for the error: its precision, or that it is compiled.

    Raises:
        UserError: if it does.
    """
    if not torch.equal(predict(x_t, index), predict(x_t.flip(0), index.flip(0)).flip(0)):
        raise UserError(
            f"on this machine a picture's result depends on its neighbours in a batch of {len(x_t)} "
            f"({x_t.device.type}, {how}, {torch.get_num_threads()} threads), so pairs could not be made again: try "
            "other --model.slots, --model.threads 1, another --model.precision, or --model.compile false"
        )
