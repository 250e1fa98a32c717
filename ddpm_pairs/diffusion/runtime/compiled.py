"""The network compiled by ``torch.compile``, one graph a size of picture."""

import os
import warnings
from pathlib import Path

import torch
from torch import Tensor

from ddpm_pairs.diffusion.denoiser import Denoiser, clean_prediction
from ddpm_pairs.diffusion.runtime.runtime import check_rows, noise_batch
from ddpm_pairs.errors import UserError

_NO_LIMIT = 2**20  # recompilations: there are as many as sizes


class CompiledDenoiser(Denoiser):
    """A denoiser whose network and clean prediction are compiled, as one graph with static shapes.

    Every size that it meets is compiled for itself: nothing is generalised, or quietly left to the plain network. What
    was compiled is kept for later runs and other ranks in ``$TORCHINDUCTOR_CACHE_DIR``, or where that is not set in
    ``$XDG_CACHE_HOME/ddpm_pairs/compiled`` (``~/.cache``); the folder may be deleted at any time.

    Args:
        denoiser: On its device and in its precision; it stays as it is, and its network is shared.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__(denoiser.net, denoiser.schedule, denoiser.prediction_type, denoiser.t_max)
        folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ddpm_pairs" / "compiled"
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
        # deterministic: no choice by measured speed, which might fall otherwise when a pair is made again
        self._predict = torch.compile(clean_prediction, fullgraph=True, dynamic=False, options={"deterministic": True})
        self._sizes: set[torch.Size] = set()

    @torch.inference_mode()
    def forward(self, x_t: Tensor, index: Tensor) -> Tensor:
        """Clean prediction; see ``Denoiser.forward``.

        Raises:
            RuntimeError: where a size cannot be compiled.
            UserError: where a picture's result depends on its neighbours in the batch.
        """
        if x_t.shape not in self._sizes:
            limits = {"recompile_limit": _NO_LIMIT, "accumulated_recompile_limit": _NO_LIMIT}
            with torch._dynamo.config.patch(limits), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")  # of diffusers
                check_rows(self._clean, *noise_batch(x_t.shape, self.t_max, x_t.device), "compiled")
            self._sizes.add(x_t.shape)
        return self._clean(x_t, index)

    def _clean(self, x_t: Tensor, index: Tensor) -> Tensor:
        # copies, because tensors of another layout, or from outside inference mode, would be compiled for again
        x_t, index = x_t.clone(memory_format=torch.contiguous_format), index.clone()
        alpha_bars = self.schedule.alpha_bars_on(x_t.device)
        return self._predict(self.net, x_t, index, alpha_bars, self.prediction_type)


def compiled(denoiser: Denoiser, x_t: Tensor, index: Tensor, required: bool) -> Denoiser:
    """The denoiser compiled; as it is, with a warning, where it cannot be.

    Args:
        denoiser: On its device and in its precision.
        x_t: Pictures to try it with.
        index: Their table indices.
        required: Whether only the compiled network gives the pairs that are wanted.

    Raises:
        UserError: where it is required and cannot be compiled.
    """
    network = CompiledDenoiser(denoiser)
    try:
        network(x_t, index)
    except UserError:
        raise
    except Exception as error:  # compilers fail in many ways
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        if required:
            raise UserError(
                f"the pairs were made with a compiled network, which cannot be compiled here ({reason}): go on where "
                "it can, or give another --output_dir"
            ) from None
        warnings.warn(f"the network cannot be compiled here ({reason}): pairs are made with it as it is", stacklevel=2)
        return denoiser
    return network
