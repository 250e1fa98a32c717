"""Ranks that publish pairs and are killed at every step of it, and whether others go on to the same folder."""

import shutil

import torch
from dying import die_at, whole_pairs
from forked_child import in_children

from ddpm_pairs.data.high_quality import Work
from ddpm_pairs.pairset.folder import PairsFolder
from ddpm_pairs.synthesis.writer import Publisher


def pair_of(key, side=8):
    generator = torch.Generator().manual_seed(sum(key.encode()))
    hq, lq = (torch.randint(0, 256, (3, s, s), dtype=torch.uint8, generator=generator) for s in (side, side // 2))
    record = {"key": key, "hq": f"hq/{key}.png", "lq": f"lq/{key}.png", "hq_size": [side, side]}
    return Work(key, f"{key}.png", hq=hq, lq=lq, record=record)


def publish_share(root, keys, rank=0, ranks=1):
    """What a rank does."""
    publisher = Publisher(PairsFolder(root, rank), 2, 3)
    for key in keys[rank::ranks]:
        publisher.submit(pair_of(key))
    publisher.close()


def kill_at_every_step(keys, ranks, work):
    """Kill rank 0 at each step, go on with one rank and with two, and compare; returns how often, and what was there.

    The process that calls this should have no threads: a fork of one that has can inherit a lock that nobody frees.

    Raises:
        AssertionError: if a folder is not what an unbroken run leaves.
    """
    out, unbroken = work / "pairs", work / "unbroken"
    publish_share(unbroken, keys)
    PairsFolder(unbroken).join([])
    whole, killed, there = _content(unbroken), 0, set()
    assert len(whole) == 2 * len(keys) + 3  # and the manifest, meta_info and failures
    while True:

        def share(rank, step=killed + 1):
            if rank == 0:
                die_at(step, out)
            publish_share(out, keys, rank, ranks)

        statuses = in_children([lambda rank=rank: share(rank) for rank in range(ranks)])
        if statuses[0] == 0:
            break
        assert statuses[0] == 9
        killed += 1
        there |= whole_pairs(out)
        PairsFolder(out).compact()
        done = PairsFolder(out).keys()
        for rank in range(1 + killed % 2):
            publish_share(out, [key for key in keys if key not in done], rank, 1 + killed % 2)
        PairsFolder(out).join([])
        assert _content(out) == whole, f"killed at step {killed}"
        shutil.rmtree(out)
    return killed, there


def _content(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
