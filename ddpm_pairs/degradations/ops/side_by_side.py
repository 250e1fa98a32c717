"""Running one picture's chain for every picture of a batch."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import torch
from torch import Tensor

from ddpm_pairs.devices import full_float32
from ddpm_pairs.images.pixels import round_to_8_bit


@torch.no_grad()
def degrade_one_by_one(degradation: Callable[..., Tensor], hq: Tensor, *arguments: Sequence) -> Tensor:
    """Degrade each picture by itself.

    Sizes and steps differ from picture to picture, so a batch cannot share operations as it stands. Of the three ways
    to deal with that, grouping what happens to be alike would make a picture's bits depend on its neighbours, and a
    canvas that holds the largest intermediate size costs every picture what the largest costs: for Real-ESRGAN's draws
    2.3 times the pixels in batches of 8, and 3.2 times with one canvas for all batches. On a CPU, one picture at a time
    is also what its caches like: JPEG took up to three times as long in a batch of eight of 512x512.

    A CPU's threads take a picture each instead of sharing every operation, because one thread draws a noise field and
    small operations do not split. So the result does not depend on the number of threads either.

    Args:
        degradation: maps a picture (1, 3, H, W) float32 and its entry of each argument to (1, 3, h, w).
        hq: (N, 3, H, W) on any device.
        arguments: per picture, N entries each.

    Returns:
        (N, 3, h, w) in [0, 1], rounded to multiples of 1/255.
    """

    def degrade(image: Tensor, *rest: object) -> Tensor:
        with torch.no_grad(), full_float32(image.device):
            return round_to_8_bit(degradation(image.float().contiguous(), *rest))

    rows, threads = hq.split(1), torch.get_num_threads()
    if hq.device.type != "cpu" or threads == 1:
        return _gather(map(degrade, rows, *arguments), len(rows))
    try:
        # also for a lone picture, which would have other bits when threads shared it
        with ThreadPoolExecutor(min(threads, len(rows)), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return _gather(pool.map(degrade, rows, *arguments), len(rows))
    finally:
        torch.set_num_threads(threads)


def _gather(rows: Iterator[Tensor], count: int) -> Tensor:
    """Copy rows into one batch as they come; keeping them all until the end would take the memory twice."""
    first = next(rows)
    batch = first.new_empty((count, *first.shape[1:]))
    for place, row in zip(batch.split(1), chain((first,), rows), strict=True):
        place.copy_(row)
    return batch
