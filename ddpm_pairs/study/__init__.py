"""The t study: how near pairs come to the real pictures, and how much content they keep, over t and degradations."""

from ddpm_pairs.study.module import TStudy

__all__ = ["TStudy"]
