"""Which sample goes to which rank.

Both are `DistributedSampler`s because Lightning leaves a loader that has one alone; any other it would, unless told
`use_distributed_sampler=False`, replace by one that repeats pictures to even out the ranks.
"""

import itertools
from collections.abc import Callable, Iterator

from torch.utils.data import DistributedSampler


class StridedSampler(DistributedSampler):
    """Indices rank, rank + world_size, ... below `n`: each index on one rank, none repeated.

    Args:
        n: number of indices.
        rank: this process, from 0.
        world_size: number of processes.
    """

    def __init__(self, n: int, rank: int, world_size: int) -> None:
        """Place this process among the ranks."""
        super().__init__(range(n), num_replicas=world_size, rank=rank, shuffle=False)
        self._indices = range(rank, n, world_size)

    def __iter__(self) -> Iterator[int]:
        """This rank's indices, ascending."""
        return iter(self._indices)

    def __len__(self) -> int:
        """Number of this rank's indices."""
        return len(self._indices)


class EndlessSampler(DistributedSampler):
    """Sample numbers start + rank, start + rank + world_size, ... without end.

    Args:
        start: number of samples already drawn by all ranks together, asked each time an iteration begins.
        rank: this process, from 0.
        world_size: number of processes.
    """

    def __init__(self, start: Callable[[], int], rank: int, world_size: int) -> None:
        """Place this process among the ranks."""
        super().__init__(range(1), num_replicas=world_size, rank=rank, shuffle=False)
        self._start = start

    def __iter__(self) -> Iterator[int]:
        """This rank's sample numbers, ascending."""
        return itertools.count(self._start() + self.rank, self.num_replicas)

    def __len__(self) -> int:
        """Raise TypeError, by which Lightning tells that the loader does not end."""
        raise TypeError("an endless sampler has no length")
