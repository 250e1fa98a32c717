"""``lightning fit``: train in an output folder whose run is never overwritten."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from ddpm_pairs.errors import UserError
from ddpm_pairs.files import write_atomically
from ddpm_pairs.plain_text import printable
from ddpm_pairs.run import Run
from ddpm_pairs.run_folder import FAILURES, failure_lines

ENTRIES = {
    "state_dict": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "loops": dict,
    "callbacks": dict,
    "epoch": int,
    "global_step": int,
}
"""What Lightning restores from a checkpoint, with the type of each entry."""


def prepare(run: Run) -> Callable[[], None]:
    """Check the output folder, the checkpoint to resume from, and everything that takes part in the run.

    Raises:
        UserError: If a check fails, before anything is written.
    """
    run.ckpt_path = _checkpoint_to_resume(run.output_dir, run.ckpt_path)
    state = None if run.ckpt_path is None else _read_state(run.ckpt_path)
    run.check()
    if state is not None and run.model.strict_loading and not is_overridden("on_load_checkpoint", run.model):
        _check_fits(run.ckpt_path, state, run.model)

    def work() -> None:
        _save_config(run)
        try:
            run.trainer.fit(run.model, run.data, ckpt_path=run.ckpt_path, weights_only=True)
        finally:
            _report_failures(run.output_dir, run.data)

    return work


def _checkpoint_to_resume(output_dir: Path, ckpt_path: str | None) -> str | None:
    last = output_dir / "last.ckpt"
    if ckpt_path == "last":
        ckpt_path = str(last) if last.is_file() else None
    elif last.is_file() and (ckpt_path is None or Path(ckpt_path).resolve().parent != last.resolve().parent):
        raise UserError(
            f"--output_dir {output_dir} already contains a run; resume it with --ckpt_path last, or choose another "
            "--output_dir"
        )
    if ckpt_path is not None and (not Path(ckpt_path).is_file() or Path(ckpt_path).suffix != ".ckpt"):
        raise UserError(
            f"--ckpt_path: got {ckpt_path}; expected an existing .ckpt file of an earlier fit (to start from weights "
            "alone, use --model.init_from)"
        )
    return ckpt_path


def _read_state(path: str) -> dict[str, Any]:
    """Return the weights of a checkpoint to resume from; no code from the file is run.

    Raises:
        UserError: If it is not the checkpoint of a fit.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises many types for files that are not checkpoints
        raise _misfit(path, f"cannot be read ({type(error).__name__})") from None
    entries = checkpoint if isinstance(checkpoint, dict) else {}
    if any(not isinstance(entries.get(name), kind) for name, kind in ENTRIES.items()) or any(
        not isinstance(one, dict) or not isinstance(one.get("param_groups"), list)
        for one in entries["optimizer_states"]
    ):
        raise _misfit(path, "is not a checkpoint of `lightning fit`")
    return entries["state_dict"]


def _check_fits(path: str, state: dict[str, Any], module: L.LightningModule) -> None:
    """Check that a checkpoint has the weights of the module, in the same shapes.

    Raises:
        UserError: If they differ.
    """
    ours, theirs = _shapes(module.state_dict()), _shapes(state)
    own_class = not type(module).__module__.startswith("ddpm_pairs.")  # which may add layers in its ``setup``
    names = ours.keys() if own_class else ours.keys() | theirs.keys()
    different = [name for name in names if ours.get(name) != theirs.get(name)]
    if different:
        name = min(different, key=str)
        raise _misfit(path, f"has {name} of shape {theirs.get(name)}, but the config has {ours.get(name)}")


def _shapes(state: dict[str, Any]) -> dict[str, tuple[int, ...] | None]:
    return {name: tuple(value.shape) if isinstance(value, torch.Tensor) else None for name, value in state.items()}


def _misfit(path: str, what: str) -> UserError:
    return UserError(
        f"--ckpt_path: {path} {what}; resume with the checkpoint and config of one fit (to start from weights alone, "
        "use --model.init_from)"
    )


@rank_zero_only
def _save_config(run: Run) -> None:
    text = yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True)
    write_atomically(run.output_dir / "config.yaml", text.encode())


@rank_zero_only
def _report_failures(output_dir: Path, data: L.LightningDataModule | None) -> None:
    """List the images that training skipped."""
    failures = getattr(data, "failures", [])
    if not failures:
        return
    path = output_dir / FAILURES
    write_atomically(path, failure_lines(failures))
    print(f"{len(failures)} images were skipped; see {path}:", file=sys.stderr)
    for failure in failures[:10]:
        print(printable(f"  {failure.source}: {failure.reason}"), file=sys.stderr)
