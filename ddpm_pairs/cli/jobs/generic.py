"""``validate``, ``test`` and ``predict`` with any trained module, including a user's own."""

from collections.abc import Callable

import lightning as L
import torch

from ddpm_pairs.errors import UserError
from ddpm_pairs.run import Run
from ddpm_pairs.shipped import weights_file


def prepare(run: Run) -> Callable[[], None]:
    """Load the weights, and check everything that takes part in the run.

    Raises:
        UserError: If a check fails, before anything is written.
    """
    if run.ckpt_path is None:
        raise UserError(f"--ckpt_path is missing; `{run.verb}` needs a checkpoint")
    path = weights_file(run.ckpt_path)
    if hasattr(run.model, "load_weights"):
        run.model.load_weights(path)
    else:
        _load_weights(run.model, path)
    run.check()

    def work() -> None:
        options = {"return_predictions": False} if run.verb == "predict" else {}
        getattr(run.trainer, run.verb)(run.model, datamodule=run.data, **options)

    return work


def _load_weights(module: L.LightningModule, path: str) -> None:
    """Load a Lightning checkpoint into a module.

    Raises:
        UserError: If the file is not a checkpoint of this module.
    """
    try:
        module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
    except Exception as error:  # torch raises many types for files that are not checkpoints
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"checkpoint {path} does not fit {type(module).__name__} ({reason}); use one written by `lightning fit`"
        ) from None
