"""A DDPM small enough for tests: random weights, in every form that `--ckpt_path` takes."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from ddpm_pairs.diffusion import Denoiser, Schedule, UNet


def tiny_denoiser(channels=(8, 16), t_max=60):
    """A denoiser whose network is a UNet of random weights; sides must be multiples of 2 ** (levels - 1)."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        net = UNet(channels=channels, layers_per_block=1, attention_levels=[], norm_groups=4)
        torch.nn.init.normal_(net.conv_out.weight, std=0.2)
    return Denoiser(net, Schedule("cosine", 1000), "epsilon", t_max).eval()


def save_ckpt(denoiser, path):
    """What a fit leaves: the spec and the module's weights."""
    state = {f"net.{name}": value for name, value in denoiser.net.state_dict().items()}
    torch.save({"ddpm_pairs": denoiser.spec(), "state_dict": state}, path)
    return str(path)


def save_safetensors(denoiser, path):
    """The export of one file."""
    save_file(denoiser.net.state_dict(), path, {"ddpm_pairs": json.dumps(denoiser.spec())})
    return str(path)


def save_folder(denoiser, path):
    """The export as a diffusers folder."""
    path = Path(path)
    (path / "unet").mkdir(parents=True)
    (path / "scheduler").mkdir()
    (path / "unet" / "config.json").write_text(json.dumps(denoiser.net.diffusers_config))
    save_file(denoiser.net.state_dict(), path / "unet" / "diffusion_pytorch_model.safetensors")
    scheduler = {
        "num_train_timesteps": 1000,
        "beta_schedule": "squaredcos_cap_v2",
        "prediction_type": "epsilon",
        "ddpm_pairs_t_max": denoiser.t_max,
    }
    (path / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    return str(path)
