"""``lightning test`` with a ``TStudy``."""

from collections.abc import Callable

from ddpm_pairs.data import UnpairedImages
from ddpm_pairs.diffusion import load_denoiser
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import sha256_of
from ddpm_pairs.run import Run
from ddpm_pairs.shipped import weights_file


def prepare(run: Run) -> Callable[[], None]:
    """Load the DDPM and the metric weights, and check the output folder.

    Raises:
        UserError: If a check fails, before anything is written.
    """
    study, trainer = run.model, run.trainer
    if not isinstance(run.data, UnpairedImages):
        raise UserError(f"--data: got {type(run.data).__name__}; expected UnpairedImages")
    if run.ckpt_path is None:
        raise UserError("--ckpt_path is missing; the t study needs a trained DDPM")
    checkpoint = weights_file(run.ckpt_path)
    run.check()
    device = trainer.strategy.root_device
    study.prepare(load_denoiser(checkpoint), sha256_of(checkpoint), run.data, run.output_dir, device)

    def work() -> None:
        trainer.test(study, run.data, verbose=False)
        if trainer.is_global_zero:
            study.to(device)  # the device of all features; the Trainer leaves it on the CPU
            study.log(trainer.loggers, study.report(run.ckpt_path))

    return work
