"""Pictures that a GAN prior makes while it trains."""

import lightning as L
from torchvision.utils import make_grid

from ddpm_pairs.callbacks.periodic import Periodic, log_image


class PriorSamples(Periodic):
    """Logs a grid of made pictures, under the weights of validation; their codes and noise stay the same over the run.

    Args:
        pictures: How many.
        every_n_steps: At the first validation after so many further steps.
    """

    def __init__(self, pictures: int = 16, every_n_steps: int = 1000) -> None:
        super().__init__(every_n_steps)
        self.pictures = pictures

    def work(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Log the grid."""
        columns = max(1, round(self.pictures**0.5))
        log_image(trainer, "samples", make_grid(module.samples(self.pictures), nrow=columns, padding=2))
