"""Callbacks of training: the moving average, the last checkpoint, and grids of samples."""

from ddpm_pairs.callbacks.ema import EMA
from ddpm_pairs.callbacks.last_checkpoint import LastCheckpoint
from ddpm_pairs.callbacks.sample_grid import SampleGrid

__all__ = ["EMA", "LastCheckpoint", "SampleGrid"]
