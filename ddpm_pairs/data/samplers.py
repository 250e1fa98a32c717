"""Samplers that distribute samples over ranks.

Both are subclasses of ``DistributedSampler``, because Lightning does not modify a loader that already has one. Unless
``use_distributed_sampler=False`` is set, it would replace any other sampler by one that repeats images to give all
ranks the same number.
"""

import itertools
from collections.abc import Callable, Iterator

from torch.utils.data import DistributedSampler


class StridedSampler(DistributedSampler):
    """Indices rank, rank + world_size, ... below ``n``: each index on exactly one rank.

    Args:
        n: Number of indices.
        rank: Rank of this process, from 0.
        world_size: Number of processes.
    """

    def __init__(self, n: int, rank: int, world_size: int) -> None:
        """Set the rank and the number of ranks."""
        super().__init__(range(n), num_replicas=world_size, rank=rank, shuffle=False)
        self._indices = range(rank, n, world_size)

    def __iter__(self) -> Iterator[int]:
        """Iterate over this rank's indices in ascending order."""
        return iter(self._indices)

    def __len__(self) -> int:
        """Number of this rank's indices."""
        return len(self._indices)


class EndlessSampler(DistributedSampler):
    """Sample numbers start + rank, start + rank + world_size, ... without end.

    Args:
        start: Returns the number of samples already drawn by all ranks together; called when an iteration begins.
        rank: Rank of this process, from 0.
        world_size: Number of processes.
    """

    def __init__(self, start: Callable[[], int], rank: int, world_size: int) -> None:
        """Set the rank and the number of ranks."""
        super().__init__(range(1), num_replicas=world_size, rank=rank, shuffle=False)
        self._start = start

    def __iter__(self) -> Iterator[int]:
        """Iterate over this rank's sample numbers in ascending order."""
        return itertools.count(self._start() + self.rank, self.num_replicas)

    def __len__(self) -> int:
        """Raise ``TypeError``, from which Lightning concludes that the loader is endless."""
        raise TypeError("an endless sampler has no length")
