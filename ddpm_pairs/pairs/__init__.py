"""Making pairs: the predict loop, the pairs folder and its manifest."""

from ddpm_pairs.pairs.generator import PairGenerator
from ddpm_pairs.pairs.writer import PairWriter

__all__ = ["PairGenerator", "PairWriter"]
