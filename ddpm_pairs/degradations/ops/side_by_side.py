"""Apply a degradation to the images of a batch one by one."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import torch
from torch import Tensor

from ddpm_pairs.images.pixels import round_to_8_bit
from ddpm_pairs.tensors import full_float32


@torch.no_grad()
def degrade_one_by_one(degradation: Callable[..., Tensor], hq: Tensor, *arguments: Sequence) -> Tensor:
    """Degrade each image separately.

    Sizes and steps differ between images, so a batch cannot share operations. There are two alternatives. Grouping
    images with equal steps would make the bits of an image depend on its batch. A canvas of the largest intermediate
    size makes every image as expensive as the largest one: for the random parameters of Real-ESRGAN it has 2.3 times
    the pixels in batches of 8, and 3.2 times with one canvas for all batches. Processing one image at a time also suits
    the caches of a CPU: JPEG took up to three times as long on a batch of eight 512x512 images.

    On a CPU each thread processes one image, instead of all threads sharing each operation, because a noise field is
    drawn by a single thread and small operations do not parallelize. The result does not depend on the number of
    threads.

    Args:
        degradation: Maps a float32 image (1, 3, H, W) and its entry of each argument to (1, 3, h, w).
        hq: (N, 3, H, W) on any device.
        arguments: Sequences of N entries, one per image.

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
        # also for a single image, whose bits would change if several threads shared it
        with ThreadPoolExecutor(min(threads, len(rows)), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return _gather(pool.map(degrade, rows, *arguments), len(rows))
    finally:
        torch.set_num_threads(threads)


def _gather(rows: Iterator[Tensor], count: int) -> Tensor:
    """Copy rows into one batch as they arrive; collecting them first would need twice the memory."""
    first = next(rows)
    batch = first.new_empty((count, *first.shape[1:]))
    for place, row in zip(batch.split(1), chain((first,), rows), strict=True):
        place.copy_(row)
    return batch
