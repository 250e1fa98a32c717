"""A tiny ReDegNet, and faces and natural images that a resumed or shared fit sees as an unbroken one does."""

import torch
from tiny_gan import TinyPairs
from torch import nn
from torch.utils.data import DataLoader

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


class TinyFaces(TinyPairs):
    """Endless random rows, from the trainer's step on."""

    def __init__(self, n=2):
        super().__init__(n)
        self.crop_size = SIDE

    def batch(self, step, n, rank=0, ranks=1):
        return faces_of(step, n, rank, ranks)

    def val_dataloader(self):
        return DataLoader([faces_of(1000, 2), faces_of(1001, 1)], batch_size=None)
