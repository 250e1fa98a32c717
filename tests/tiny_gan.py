"""Tiny adversarial modules, and pictures that a resumed or shared fit sees as an unbroken one of one process would."""

import tempfile
from pathlib import Path

import lightning as L
import torch
from torch.utils.data import DataLoader, IterableDataset

from ddpm_pairs.degradations.learned.discriminators import PatchDiscriminator
from ddpm_pairs.restoration.adversarial import Adversarial
from ddpm_pairs.restoration.domain_weighted import DomainWeighted
from ddpm_pairs.restoration.gan_prior import Prior
from ddpm_pairs.restoration.networks.gpen import GPEN, StyleDecoder, StyleDiscriminator
from ddpm_pairs.restoration.networks.rrdb import RRDBNet
from ddpm_pairs.restoration.networks.unet_discriminator import UNetDiscriminator

SIZE = 16
NARROW = 1 / 64
RRDB_PAIRS = {"side": 32, "scale": 4}
GPEN_OPTIONS = {
    "pixel_loss": "smooth_l1", "adversarial_weight": 1.0, "r1_weight": 10.0, "r1_every": 2, "path_weight": 2.0,
    "path_every": 3, "learning_rate": 2e-3, "part_learning_rates": {"generator.": 2e-4},
    "discriminator_learning_rate": 2e-5, "betas": (0.0, 0.99),
}  # fmt: skip


def rrdb_gan(seed=0, **options):
    torch.manual_seed(seed)
    return Adversarial(tiny_rrdb(), UNetDiscriminator(nf=4), **options)


def dsgan_rrdb(seed=0, **options):
    torch.manual_seed(seed)
    judge = PatchDiscriminator("box", (4, 6), 3, "batch", window=9)
    losses = {"pixel_loss": "low_l1", "pixel_weight": 0.01, "adversarial_loss": "relativistic", "halve_at": (2,)}
    return Adversarial(tiny_rrdb(), judge, **(losses | options))


def pdm_rrdb(seed=0, **options):
    torch.manual_seed(seed)
    judge = PatchDiscriminator("image", (4, 6), 3, "instance")
    losses = {"adversarial_loss": "least_squares", "adversarial_weight": 0.05, "halve_at": (2,)}
    return Adversarial(tiny_rrdb(), judge, **(losses | options))


def dasr_rrdb(seed=0, **options):
    """With the discriminator of a domain loaded."""
    torch.manual_seed(seed)
    judge = PatchDiscriminator("gaussian", (4, 6), 3, "instance")
    domain = tiny_domain()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dasr.ckpt"
        save_domain(domain, path)
        rates = {"learning_rate": 1e-4, "adversarial_weight": 0.1, "halve_at": (2,)}
        module = DomainWeighted(tiny_rrdb(), judge, tiny_domain(), str(path), **(rates | options))
        module.load()
    return module


def tiny_rrdb():
    return RRDBNet(scale=4, nf=8, nb=1, gc=4)


def tiny_domain():
    return PatchDiscriminator("haar", (4, 4), 3, "instance")


def save_domain(domain, path):
    """Save a discriminator as a checkpoint of ``DegradationGAN`` has it."""
    weights = {f"discriminator.{name}": value for name, value in domain.state_dict().items()}
    torch.save({"state_dict": {"net.weight": torch.zeros(1)} | weights, "ddpm_pairs": {"kind": "degradation"}}, path)


def gpen_gan(seed=0, compare_batch=True, **options):
    torch.manual_seed(seed)
    net, judge = GPEN(SIZE, 1, NARROW), StyleDiscriminator(SIZE, 1, NARROW, compare_batch)
    return Adversarial(stirred(net), judge, **(GPEN_OPTIONS | options))


def prior(seed=0, compare_batch=True, **options):
    torch.manual_seed(seed)
    judge = StyleDiscriminator(SIZE, 1, NARROW, compare_batch)
    return Prior(stirred(StyleDecoder(SIZE, 1, NARROW)), judge, **({"r1_every": 2, "path_every": 3} | options))


def stirred(net):
    """Noise and biases count too."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return net


def batch_of(step, n, side, scale, rank=0, ranks=1):
    """This rank's places rank, rank + ranks, ... of the n * ranks pictures of a step."""
    whole = torch.rand(n * ranks, 3, side, side, generator=torch.Generator().manual_seed(step))
    hq, real = whole[rank::ranks], whole.roll(1, 0).flip(3)[rank::ranks]
    lq, real = (torch.nn.functional.avg_pool2d(images, scale) for images in (hq, real))
    return {"hq": hq, "lq": lq, "real": real, "key": [str(i) for i in range(n)]}


class TinyPairs(L.LightningDataModule):
    """Endless random pairs, from the trainer's step on."""

    def __init__(self, n=2, side=SIZE, scale=1):
        super().__init__()
        self.n, self.side, self.scale = n, side, scale

    def batch(self, step, n, rank=0, ranks=1):
        return batch_of(step, n, self.side, self.scale, rank, ranks)

    def train_dataloader(self):
        trainer = self.trainer

        def batches():
            step = trainer.global_step
            while True:
                yield self.batch(step, self.n, trainer.global_rank, trainer.world_size)
                step += 1

        class Stream(IterableDataset):
            def __iter__(self):
                return batches()

        return DataLoader(Stream(), batch_size=None)

    def val_dataloader(self):
        return DataLoader([self.batch(1000, 1)], batch_size=None)


def trainer(steps, **options):
    options = {"logger": False, "enable_checkpointing": True, "val_check_interval": 2, **options}
    return L.Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        check_val_every_n_epoch=None,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **options,
    )
