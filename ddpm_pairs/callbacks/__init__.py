"""Callbacks: EMA, last checkpoint, sample grids, gradient norm and speed, and scores."""

from ddpm_pairs.callbacks.code_samples import CodeSamples
from ddpm_pairs.callbacks.ema import EMA
from ddpm_pairs.callbacks.evaluation import Evaluation
from ddpm_pairs.callbacks.last_checkpoint import LastCheckpoint
from ddpm_pairs.callbacks.learned_samples import LearnedSamples
from ddpm_pairs.callbacks.prior_samples import PriorSamples
from ddpm_pairs.callbacks.real_samples import RealSamples
from ddpm_pairs.callbacks.realism import Realism
from ddpm_pairs.callbacks.sample_grid import SampleGrid
from ddpm_pairs.callbacks.training_monitor import TrainingMonitor

__all__ = [
    "EMA",
    "CodeSamples",
    "Evaluation",
    "LastCheckpoint",
    "LearnedSamples",
    "PriorSamples",
    "RealSamples",
    "Realism",
    "SampleGrid",
    "TrainingMonitor",
]
