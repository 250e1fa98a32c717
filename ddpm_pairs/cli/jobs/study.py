"""``lightning test`` with a ``TStudy``."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ddpm_pairs.diffusion import load_denoiser
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import sha256_of
from ddpm_pairs.shipped import weights_file
from ddpm_pairs.study import TStudy
from ddpm_pairs.study.wandb_log import log_study

if TYPE_CHECKING:
    from ddpm_pairs.cli.trainer import TrainerCLI


def prepare(cli: "TrainerCLI") -> Callable[[], None]:
    """Load the DDPM and the metric weights, and check the study's folder.

    Raises:
        UserError: in one line, before anything is written.
    """
    if not isinstance(cli.model, TStudy):
        raise UserError(f"UnpairedImages are for the t study, --model is {type(cli.model).__name__}")
    if cli.ckpt_path is None:
        raise UserError("no checkpoint was given: expected --ckpt_path with a trained DDPM")
    checkpoint = weights_file(cli.ckpt_path)
    device = cli.trainer.strategy.root_device
    denoiser = load_denoiser(checkpoint)
    cli.model.prepare(denoiser, sha256_of(checkpoint), cli.datamodule, cli.output_dir, device)

    def work() -> None:
        cli.trainer.test(cli.model, cli.datamodule, verbose=False)
        if cli.trainer.is_global_zero:
            cli.model.to(device)  # where the other features were computed; the Trainer leaves it on the CPU
            log_study(cli.trainer.loggers, cli.output_dir, cli.model.report(cli.ckpt_path))

    return work
