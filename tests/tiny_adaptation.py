"""Tiny modules of noise-space adaptation, and batches that a resumed or shared fit sees as an unbroken one would."""

import torch
from tiny_gan import TinyPairs, batch_of
from torch.utils.data import DataLoader, IterableDataset

from ddpm_pairs.restoration import ConditionalUNet, NoiseAdaptation, RRDBNet

DENOISER = {"channels": (8, 8), "layers_per_block": 1, "attention": False, "norm_groups": 4, "dropout": 0.0}
SIDE, SCALE = 16, 4


def network(seed=0, scale=SCALE):
    torch.manual_seed(seed)
    return RRDBNet(scale, nf=8, nb=1, gc=4)


def adaptation(scale=SCALE, denoiser=DENOISER, **options):
    net = network(scale=scale)
    return NoiseAdaptation(
        net, ConditionalUNet(**denoiser), **({"ramp": 2, "ramp_unit": "steps", "weight": 1.0} | options)
    )


def real_batch(step, n=2, rank=0, ranks=1):
    batch = batch_of(step, n, SIDE, SCALE, rank, ranks)
    other = batch_of(10_000 + step, n, SIDE, SCALE, rank, ranks)
    return batch | {"real": 1 - other["lq"], "clean": other["hq"]}


class TinyReal(TinyPairs):
    """Endless random pairs and real images, from the trainer's step on."""

    def __init__(self, n=2):
        super().__init__(n, SIDE, SCALE)

    def train_dataloader(self):
        trainer, n = self.trainer, self.n

        class Stream(IterableDataset):
            def __iter__(self):
                step = trainer.global_step
                while True:
                    yield real_batch(step, n, trainer.global_rank, trainer.world_size)
                    step += 1

        return DataLoader(Stream(), batch_size=None)

    def val_dataloader(self):
        return DataLoader([real_batch(1000, 1)], batch_size=None)
