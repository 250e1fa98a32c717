from itertools import islice

import pytest

from ddpm_pairs.data.samplers import EndlessSampler, StridedSampler


@pytest.mark.parametrize(("n", "world_size"), [(7, 2), (8, 4), (2, 3), (0, 2), (5, 1)])
def test_strided_sampler_partitions_without_padding(n, world_size):
    shares = [list(StridedSampler(n, rank, world_size)) for rank in range(world_size)]
    assert sorted(sum(shares, [])) == list(range(n))
    assert shares[0] == list(range(0, n, world_size))
    assert [len(StridedSampler(n, rank, world_size)) for rank in range(world_size)] == [len(s) for s in shares]


def test_endless_sampler_interleaves_ranks_from_the_start():
    ranks = [list(islice(EndlessSampler(lambda: 12, rank, 3), 4)) for rank in range(3)]
    assert [i for together in zip(*ranks, strict=True) for i in together] == list(range(12, 24))


def test_endless_sampler_asks_for_the_start_at_each_iteration():
    start = 0
    sampler = EndlessSampler(lambda: start, 0, 1)
    assert next(iter(sampler)) == 0
    start = 32
    assert next(iter(sampler)) == 32


def test_endless_sampler_has_no_length():
    with pytest.raises(TypeError):
        len(EndlessSampler(lambda: 0, 0, 1))
