"""Tiny modules that learn a degradation."""

import torch

from ddpm_pairs.degradations.learned.dasr import DASR
from ddpm_pairs.degradations.learned.discriminators import PatchDiscriminator
from ddpm_pairs.degradations.learned.dsgan import DSGAN
from ddpm_pairs.degradations.learned.module import DegradationGAN
from ddpm_pairs.degradations.learned.pdm import PDM

DATA = {"side": 64, "scale": 4}


def small_pdm(**options):
    return PDM(4, width=8, blocks=1, noise_width=8, noise_blocks=1, **({"noise_sees_image": True} | options))


def dsgan_gan(seed=0, norm="batch", **options):
    torch.manual_seed(seed)
    return DegradationGAN(DSGAN(4, 8, 1), PatchDiscriminator("box", (4, 6), norm=norm), **options)


def dasr_gan(seed=0, **options):
    torch.manual_seed(seed)
    judge = PatchDiscriminator("haar", (4, 6), norm="instance")
    return DegradationGAN(DASR(4, 8, 1), judge, content="haar", **options)


def pdm_gan(seed=0, **options):
    torch.manual_seed(seed)
    losses = {"adversarial_loss": "least_squares", "adversarial_weight": 1.0, "content_weight": 0.0}
    judge = PatchDiscriminator("image", (4, 6), 3, "instance")
    return DegradationGAN(small_pdm(), judge, **(losses | {"noise_mean_weight": 10.0} | options))


def relativistic_gan(**options):
    return dsgan_gan(adversarial_loss="relativistic", **options)


def wasserstein_gan(**options):
    return dsgan_gan(norm="none", adversarial_loss="wasserstein", gradient_penalty=10.0, **options)
