"""Weights & Biases: runs, logs and the workspace."""
