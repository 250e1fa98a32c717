"""Weights & Biases: runs, logs, the workspace."""
