"""A LightningModule that keeps the batches of a DataModule, and a stand-in for its trainer's ranks."""

from types import SimpleNamespace

import lightning as L
import torch


class Listener(L.LightningModule):
    """Keeps what arrives."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen, self.seen_val = [], []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch)
        return (self.weight - batch["lq"].mean()) ** 2

    def validation_step(self, batch, batch_idx):
        self.seen_val.append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Ranks:
    """The part of a Trainer that places a process among others, and on a device."""

    def __init__(self, global_rank, world_size, global_step=0, accumulate_grad_batches=1, device="cpu"):
        self.strategy = SimpleNamespace(root_device=torch.device(device))
        self.global_rank, self.world_size = global_rank, world_size
        self.global_step, self.accumulate_grad_batches = global_step, accumulate_grad_batches
