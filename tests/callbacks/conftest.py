"""A small DDPM on small pictures, trained by a real Trainer."""

import cv2
import lightning as L
import numpy as np
import pytest
import torch
from torch import nn

from ddpm_pairs.data import LowQualityImages
from ddpm_pairs.diffusion import DDPM, UNet


class Network(nn.Module):
    """A small U-Net behind dropout, so that the global random state matters in training."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.unet = UNet(channels=[8, 16], layers_per_block=1, attention_levels=[], norm_groups=4)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x_t, timestep):
        return self.dropout(self.unet(x_t, timestep))


@pytest.fixture(scope="session")
def lq_dir(tmp_path_factory):
    """Nine pictures of 20x24 pixels."""
    folder = tmp_path_factory.mktemp("lq")
    draw = np.random.default_rng(0)
    for n in range(9):
        cv2.imwrite(str(folder / f"{n}.png"), draw.integers(0, 256, (20, 24, 3), dtype=np.uint8))
    return folder


@pytest.fixture
def pictures(lq_dir):
    """Makes the data."""

    def make(**options):
        options = {"crop_size": 16, "batch_size": 2, "val_fraction": 0.7, "num_workers": 0, **options}
        return LowQualityImages(str(lq_dir), **options)

    return make


@pytest.fixture
def module():
    """Makes the module; its learning rate never rests, so that a step more or less shows."""

    def make(seed=0, dropout=False, **options):
        network = Network(seed) if dropout else Network(seed).unet
        options = {"learning_rate": 0.01, "warmup_steps": 3, "cosine_decay": True, "loss": "mse", **options}
        return DDPM(network, num_train_timesteps=50, t_max=20, **options)

    return make


@pytest.fixture
def trainer():
    """Makes the Trainer: validation after every fourth batch."""

    def make(steps, callbacks, **options):
        options = {"logger": False, "enable_checkpointing": True, "val_check_interval": 4, **options}
        return L.Trainer(
            accelerator="cpu",
            max_steps=steps,
            max_epochs=-1,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=callbacks,
            **options,
        )

    return make


@pytest.fixture(autouse=True)
def own_working_directory(tmp_path, monkeypatch):
    """What a Trainer writes by itself stays out of the repository."""
    monkeypatch.chdir(tmp_path)
