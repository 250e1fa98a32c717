"""``lightning predict`` with a ``PairGenerator``: HQ images in, a pairs folder out."""

from collections.abc import Callable

from lightning.pytorch.callbacks import ProgressBar

from ddpm_pairs.data import HighQualityImages
from ddpm_pairs.diffusion import load_denoiser
from ddpm_pairs.errors import UserError
from ddpm_pairs.reports.pairs import report_pairs
from ddpm_pairs.reports.wandb.log import log_pairs
from ddpm_pairs.run import Run
from ddpm_pairs.shipped import weights_file
from ddpm_pairs.synthesis.progress import PairsProgress
from ddpm_pairs.synthesis.writer import PairWriter


def prepare(run: Run) -> Callable[[], None]:
    """Load the DDPM, check the pairs folder, and try the network on the device.

    Raises:
        UserError: If a check fails, before anything is written.
    """
    generator, trainer = run.model, run.trainer
    if not isinstance(run.data, HighQualityImages):
        raise UserError(f"--data: got {type(run.data).__name__}; expected HighQualityImages")
    run.check()
    if run.ckpt_path is not None and generator.t[1] > 0:  # with t_max 0, there is no walk
        generator.add_walk(load_denoiser(weights_file(run.ckpt_path)))
    writer = PairWriter(str(run.output_dir), run.allow_mixed, run.config)
    device = trainer.strategy.root_device
    writer.check(generator, run.data, device.type)
    generator.prepare(device)
    callbacks = [one for one in trainer.callbacks if not isinstance(one, ProgressBar)]
    bar = [PairsProgress(writer)] if len(callbacks) < len(trainer.callbacks) else []
    trainer.callbacks = [*callbacks, writer, *bar]

    def work() -> None:
        trainer.predict(generator, run.data, ckpt_path=None, return_predictions=False)
        if trainer.is_global_zero:
            report_pairs(run.output_dir, writer.summary, generator.to(device))
            if trainer.loggers:
                log_pairs(trainer.loggers, run.output_dir, writer.summary)

    return work
