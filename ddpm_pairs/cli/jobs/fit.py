"""``lightning fit``: training, with a run's folder that is never overwritten."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import lightning as L
import yaml
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from ddpm_pairs.callbacks import Realism
from ddpm_pairs.cli.jobs.agreement import check_agreement
from ddpm_pairs.diffusion import DDPM, load_denoiser
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import write_atomically
from ddpm_pairs.restoration.gan_prior import Prior
from ddpm_pairs.restoration.restorer import Restorer
from ddpm_pairs.run_folder import FAILURES, failure_lines

if TYPE_CHECKING:
    from ddpm_pairs.cli.trainer import TrainerCLI


def prepare(cli: "TrainerCLI") -> Callable[[], None]:
    """Check the run's folder, the checkpoint to resume, and whether module and data fit.

    Raises:
        UserError: in one line, before anything is written.
    """
    resume = _checkpoint_to_resume(cli.output_dir, cli.ckpt_path)
    if resume is not None and isinstance(cli.model, DDPM):
        check_agreement(cli.model.denoiser().spec(), resume, load_denoiser(resume).spec())
    if isinstance(cli.model, Restorer | Prior):
        cli.model.check(getattr(cli.datamodule, "scale", None), getattr(cli.datamodule, "crop_size", None))
    for part in (*cli.trainer.callbacks, *cli.model.children()):
        if hasattr(part, "check"):  # such as whether the weights of metrics and losses are there
            part.check()
        if isinstance(part, Realism):
            part.check_against(cli.model, [*cli.datamodule.train_pictures, *cli.datamodule.val_pictures])

    def work() -> None:
        _save_config(cli)
        try:
            cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=resume, weights_only=True)
        finally:
            _report_failures(cli.output_dir, cli.datamodule)

    return work


def _checkpoint_to_resume(output_dir: Path, ckpt_path: str | None) -> str | None:
    last = output_dir / "last.ckpt"
    if ckpt_path == "last":
        ckpt_path = str(last) if last.is_file() else None
    elif last.is_file() and (ckpt_path is None or Path(ckpt_path).resolve().parent != last.resolve().parent):
        raise UserError(
            f"a run lies in {output_dir} already: go on with --ckpt_path last, or give another --output_dir"
        )
    if ckpt_path is not None and (not Path(ckpt_path).is_file() or Path(ckpt_path).suffix != ".ckpt"):
        raise UserError(
            f"--ckpt_path {ckpt_path} cannot be resumed: expected a .ckpt of an earlier fit "
            "(weights alone are taken by --model.init_from)"
        )
    return ckpt_path


@rank_zero_only
def _save_config(cli: "TrainerCLI") -> None:
    text = yaml.safe_dump(cli.config_dump(), sort_keys=False, allow_unicode=True)
    write_atomically(cli.output_dir / "config.yaml", text.encode())


@rank_zero_only
def _report_failures(output_dir: Path, data: L.LightningDataModule | None) -> None:
    """List the pictures that were left out of training."""
    failures = getattr(data, "failures", [])
    if not failures:
        return
    path = output_dir / FAILURES
    write_atomically(path, failure_lines(failures))
    print(f"{len(failures)} pictures were left out, listed in {path}:", file=sys.stderr)
    for failure in failures[:10]:
        print(f"  {failure.source}: {failure.reason}", file=sys.stderr)
