"""The t study and the study of starts: how close pairs come to real images, and how much content they keep."""

from ddpm_pairs.study.module import TStudy
from ddpm_pairs.study.starts.module import StartsStudy

__all__ = ["StartsStudy", "TStudy"]
