"""Pair synthesis: the predict loop that makes pairs and writes the pairs folder."""

from ddpm_pairs.synthesis.generator import PairGenerator
from ddpm_pairs.synthesis.writer import PairWriter

__all__ = ["PairGenerator", "PairWriter"]
