"""Seeds that depend only on names, never on order, batch, rank, or process."""

from hashlib import blake2b

import torch


def seed_of(*parts: str | int) -> int:
    """Hash the parts to a 63-bit seed with BLAKE2b; the same on every machine and in every process."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") & (2**63 - 1)


def generator_for(*parts: str | int) -> torch.Generator:
    """Return a CPU generator seeded by ``seed_of``; for an image, from the run's seed, its key, and the purpose."""
    return torch.Generator().manual_seed(seed_of(*parts))
