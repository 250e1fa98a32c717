"""What every training shares: optimizers, adversarial steps, losses."""
