"""Seeds that depend on names alone: on no order, batch, rank or process."""

from hashlib import blake2b

import torch


def seed_of(*parts: str | int) -> int:
    """A 63-bit seed from the parts, by BLAKE2b; equal on every machine and in every process."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") & (2**63 - 1)


def generator_for(*parts: str | int) -> torch.Generator:
    """A CPU generator seeded by ``seed_of``; of an image, the parts are the run's seed, its key and the purpose."""
    return torch.Generator().manual_seed(seed_of(*parts))
