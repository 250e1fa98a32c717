"""A tiny ReDegNet, and faces and natural images that a resumed or shared fit sees as an unbroken one does."""

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from ddpm_pairs.degradations.learned.redegnet.discriminator import SynD
from ddpm_pairs.degradations.learned.redegnet.module import IMAGES, DegradationCodes
from ddpm_pairs.degradations.learned.redegnet.networks import ReDegNet

SIZES = {"width": 4, "levels": 2, "code": 6}
SIDE = 16


class Edges(nn.Module):
    """A perceptual distance of horizontal differences, and a style distance of vertical ones."""

    def with_style(self, made, target):
        return (made.diff(dim=3) - target.diff(dim=3)).abs().mean(), (
            made.diff(dim=2) - target.diff(dim=2)
        ).abs().mean()


def tiny_codes(seed=0, **options):
    torch.manual_seed(seed)
    module = DegradationCodes(ReDegNet(**SIZES, residual=True), SynD(4, 6), **options)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("strength"):
                parameter.fill_(0.5)
    return module


def faces_of(step, n, rank=0, ranks=1):
    """This rank's places rank, rank + ranks, ... of the n * ranks rows of a step."""
    whole = torch.rand(n * ranks, len(IMAGES), 3, SIDE, SIDE, generator=torch.Generator().manual_seed(step))
    own = whole[rank::ranks].unbind(1)
    return dict(zip(IMAGES, own, strict=True)) | {"key": [str(i) for i in range(n)]}


class TinyFaces(L.LightningDataModule):
    """Endless random rows, from the trainer's step on."""

    def __init__(self, n=2):
        super().__init__()
        self.n, self.crop_size = n, SIDE

    def train_dataloader(self):
        trainer = self.trainer

        def batches():
            step = trainer.global_step
            while True:
                yield faces_of(step, self.n, trainer.global_rank, trainer.world_size)
                step += 1

        class Stream(IterableDataset):
            def __iter__(self):
                return batches()

        return DataLoader(Stream(), batch_size=None)

    def val_dataloader(self):
        return DataLoader([faces_of(1000, 2), faces_of(1001, 1)], batch_size=None)
