"""Shared by all trainings: optimizers, adversarial steps, and losses."""
