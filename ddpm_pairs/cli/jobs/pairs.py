"""``lightning predict`` with a ``PairGenerator``: HQ pictures in, a pairs folder out."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from lightning.pytorch.callbacks import ProgressBar

from ddpm_pairs.data import HighQualityImages
from ddpm_pairs.diffusion import load_denoiser
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import as_output_error
from ddpm_pairs.reports.pairs import report_pairs
from ddpm_pairs.reports.wandb.log import log_pairs
from ddpm_pairs.shipped import weights_file
from ddpm_pairs.synthesis.progress import PairsProgress
from ddpm_pairs.synthesis.writer import PairWriter

if TYPE_CHECKING:
    from ddpm_pairs.cli.trainer import TrainerCLI


def prepare(cli: "TrainerCLI") -> Callable[[], None]:
    """Load the DDPM, check the pairs folder, and try the network on the device.

    Raises:
        UserError: in one line, before anything is written.
    """
    if not isinstance(cli.datamodule, HighQualityImages):
        raise UserError(f"pairs are made from HighQualityImages, --data is {type(cli.datamodule).__name__}")
    checkpoint = None if cli.ckpt_path is None else weights_file(cli.ckpt_path)
    if checkpoint is not None and cli.model.t_max > 0:
        cli.model.denoiser = load_denoiser(checkpoint)
    used = None if cli.model.denoiser is None else checkpoint
    writer = PairWriter(str(cli.output_dir), used, cli.allow_mixed, cli.config_dump())
    device = cli.trainer.strategy.root_device
    writer.check(cli.model, cli.datamodule, device.type)
    cli.model.prepare(device)
    callbacks = [one for one in cli.trainer.callbacks if not isinstance(one, ProgressBar)]
    bar = [PairsProgress(writer)] if len(callbacks) < len(cli.trainer.callbacks) else []
    cli.trainer.callbacks = [*callbacks, writer, *bar]

    def work() -> None:
        cli.trainer.predict(cli.model, cli.datamodule, ckpt_path=None, return_predictions=False)
        if cli.trainer.is_global_zero:
            with as_output_error(cli.output_dir):
                report_pairs(cli.output_dir, writer.summary)
            log_pairs(cli.trainer.loggers, cli.output_dir, writer.summary)

    return work
