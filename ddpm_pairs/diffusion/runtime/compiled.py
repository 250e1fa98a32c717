"""The network compiled by ``torch.compile``, one graph per image size."""

import os
import warnings
from pathlib import Path

import torch
from torch import Tensor

from ddpm_pairs.diffusion.denoiser import Denoiser, clean_prediction
from ddpm_pairs.diffusion.runtime.runtime import check_rows, noise_batch
from ddpm_pairs.errors import UserError

_NO_LIMIT = 2**20  # of recompilations, since every size needs one


class CompiledDenoiser(Denoiser):
    """A denoiser whose network and clean prediction are compiled as one graph with static shapes.

    Every size is compiled separately: no graph is generalized to other sizes, and no size silently falls back to the
    uncompiled network. Compiled code is cached for later runs and other ranks in ``$TORCHINDUCTOR_CACHE_DIR``, or, if
    that is not set, in ``$XDG_CACHE_HOME/ddpm_pairs/compiled`` (``~/.cache``). The folder may be deleted at any time.

    Args:
        denoiser: A denoiser on its device and in its precision; it is not modified, and its network is shared.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__(denoiser.net, denoiser.schedule, denoiser.prediction_type, denoiser.t_max)
        folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ddpm_pairs" / "compiled"
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
        # Deterministic: kernels chosen by measured speed might differ when a pair is remade.
        self._predict = torch.compile(clean_prediction, fullgraph=True, dynamic=False, options={"deterministic": True})
        self._sizes: set[torch.Size] = set()

    @torch.inference_mode()
    def forward(self, x_t: Tensor, index: Tensor) -> Tensor:
        """Predict the clean image; see ``Denoiser.forward``.

        Raises:
            RuntimeError: If a size cannot be compiled.
            UserError: If the result of an image depends on its neighbors in the batch.
        """
        if x_t.shape not in self._sizes:
            limits = {"recompile_limit": _NO_LIMIT, "accumulated_recompile_limit": _NO_LIMIT}
            with torch._dynamo.config.patch(limits), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")  # of diffusers
                check_rows(self._clean, *noise_batch(x_t.shape, self.t_max, x_t.device), "compiled")
            self._sizes.add(x_t.shape)
        return self._clean(x_t, index)

    def _clean(self, x_t: Tensor, index: Tensor) -> Tensor:
        # Copied, because a different memory layout, or a tensor from outside inference mode, triggers recompilation.
        x_t, index = x_t.clone(memory_format=torch.contiguous_format), index.clone()
        alpha_bars = self.schedule.alpha_bars_on(x_t.device)
        return self._predict(self.net, x_t, index, alpha_bars, self.prediction_type)


def compiled(denoiser: Denoiser, x_t: Tensor, index: Tensor, required: bool) -> Denoiser:
    """Compile a denoiser, and test the result; if that fails, warn and return the denoiser uncompiled.

    Args:
        denoiser: A denoiser on its device and in its precision.
        x_t: Noised images for the test.
        index: Their table indices.
        required: Whether to raise instead of warning, because earlier pairs were made by a compiled network.

    Returns:
        The compiled denoiser, or ``denoiser``.

    Raises:
        UserError: If compilation is required and fails.
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
                f"the pairs were made with a compiled network, which cannot be compiled here ({reason}); resume on a "
                "machine that can compile it, or use another --output_dir"
            ) from None
        warnings.warn(f"the network cannot be compiled here ({reason}); it runs uncompiled", stacklevel=2)
        return denoiser
    return network
