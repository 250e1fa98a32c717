"""Callbacks of training: the moving average, the last checkpoint, grids of samples, gradients and speed."""

from ddpm_pairs.callbacks.ema import EMA
from ddpm_pairs.callbacks.last_checkpoint import LastCheckpoint
from ddpm_pairs.callbacks.sample_grid import SampleGrid
from ddpm_pairs.callbacks.training_monitor import TrainingMonitor

__all__ = ["EMA", "LastCheckpoint", "SampleGrid", "TrainingMonitor"]
