"""Verbs that run a trained module as it is, a user's own included."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import lightning as L
import torch

from ddpm_pairs.cli.jobs.agreement import check_agreement
from ddpm_pairs.diffusion import DDPM, load_denoiser
from ddpm_pairs.errors import UserError
from ddpm_pairs.shipped import weights_file

if TYPE_CHECKING:
    from ddpm_pairs.cli.trainer import TrainerCLI


def prepare(cli: "TrainerCLI") -> Callable[[], None]:
    """Load the weights ourselves, as everywhere outside of resuming.

    Raises:
        UserError: in one line, before anything is written.
    """
    if cli.ckpt_path is None:
        raise UserError(f"no checkpoint was given: `{cli.subcommand}` expects --ckpt_path")
    checkpoint = weights_file(cli.ckpt_path)
    if isinstance(cli.model, DDPM):
        loaded = load_denoiser(checkpoint)
        asked = cli.model.denoiser().spec()
        del asked["t_max"]  # a loss over other t than those of the training is still a loss
        check_agreement(asked, checkpoint, loaded.spec())
        cli.model.net.load_state_dict(loaded.net.state_dict())
    else:
        _load_weights(cli.model, checkpoint)

    def work() -> None:
        options = {"return_predictions": False} if cli.subcommand == "predict" else {}
        getattr(cli.trainer, cli.subcommand)(cli.model, datamodule=cli.datamodule, **options)

    return work


def _load_weights(module: L.LightningModule, path: str) -> None:
    """Fill a module from a Lightning checkpoint.

    Raises:
        UserError: if the file is none, or of another module.
    """
    try:
        module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
    except Exception as error:  # torch raises many kinds for a file that is no checkpoint
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"checkpoint {path} does not fit {type(module).__name__} ({reason}): give one that `lightning fit` wrote"
        ) from None
