"""The t study: how close pairs come to real images, and how much content they keep, over t and degradations."""

from ddpm_pairs.study.module import TStudy

__all__ = ["TStudy"]
