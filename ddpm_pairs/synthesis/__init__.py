"""Making pairs: the predict loop, the pairs folder and its manifest."""

from ddpm_pairs.synthesis.generator import PairGenerator
from ddpm_pairs.synthesis.writer import PairWriter

__all__ = ["PairGenerator", "PairWriter"]
