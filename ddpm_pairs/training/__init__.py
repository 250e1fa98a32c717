"""What every training shares: optimizers, losses, adversarial steps."""
