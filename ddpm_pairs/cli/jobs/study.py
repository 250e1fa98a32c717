"""``lightning test`` with a ``TStudy``."""

from collections.abc import Callable

from ddpm_pairs.data import UnpairedImages
from ddpm_pairs.diffusion import load_denoiser
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import sha256_of
from ddpm_pairs.run import Run
from ddpm_pairs.shipped import weights_file
from ddpm_pairs.study.wandb_log import log_study


def prepare(run: Run) -> Callable[[], None]:
    """Load the DDPM and the metric weights, and check the study's folder.

    Raises:
        UserError: In one line, before anything is written.
    """
    study, trainer = run.model, run.trainer
    if not isinstance(run.data, UnpairedImages):
        raise UserError(f"the t study compares UnpairedImages, --data is {type(run.data).__name__}")
    if run.ckpt_path is None:
        raise UserError("no checkpoint was given: expected --ckpt_path with a trained DDPM")
    checkpoint = weights_file(run.ckpt_path)
    run.check()
    device = trainer.strategy.root_device
    study.prepare(load_denoiser(checkpoint), sha256_of(checkpoint), run.data, run.output_dir, device)

    def work() -> None:
        trainer.test(study, run.data, verbose=False)
        if trainer.is_global_zero:
            study.to(device)  # where the other features were computed; the Trainer leaves it on the CPU
            log_study(trainer.loggers, run.output_dir, study.report(run.ckpt_path))

    return work
