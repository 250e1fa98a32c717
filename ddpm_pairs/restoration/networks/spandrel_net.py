"""Wrap any single-image restoration network that spandrel opens, for training and testing."""

import importlib.util
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_pairs.errors import UserError
from ddpm_pairs.restoration.weight_files import MisfitError, first_misfit, read_weights
from ddpm_pairs.tensors import SizeLimit

if TYPE_CHECKING:
    from spandrel import ArchRegistry, ImageModelDescriptor

FACE_SIDE = 512
"""Input side at which the face networks that spandrel opens (GFPGAN, RestoreFormer, CodeFormer) were trained."""

EXTRA = "pip install 'ddpm_pairs[restorers-extra]'"
"""Command that installs architectures whose licenses restrict commercial use, such as CodeFormer."""


class SpandrelNet(nn.Module):
    """A restoration network of any architecture that spandrel supports, built from a file of its weights.

    The weights determine the architecture, its sizes, and the scale. Images of any size are accepted: ``forward`` pads
    them to the size that the network requires, and crops its output. Under autocast, a network runs in float32 if it
    does not support the autocast type, according to spandrel. Networks that draw noise (GFPGAN) draw the same noise for
    every image, except in training.

    On several GPUs, a network with weights that get no gradient needs
    ``--trainer.strategy ddp_find_unused_parameters_true``.

    Args:
        weights: A ``.pth``, ``.safetensors``, or ``.ckpt`` file. After a fit that started from it, the fit's
            ``last.ckpt`` can replace it.

    Attributes:
        spandrel: The network itself; its weights have the same names as in the file.
        architecture: spandrel's name for the architecture, such as ``SPAN``.
        scale: Output side over input side.
        multiple: 1, because ``forward`` pads; equal to ``side`` if that is set.
        side: The only input side (aligned square faces); ``None`` if any size is accepted.
        tiling: ``supported``, ``discouraged`` (the result depends on the whole image), or ``internal`` (the network
            splits images into tiles itself).

    Raises:
        UserError: If the file is missing, unreadable, or contains no RGB restoration network that spandrel opens.
    """

    def __init__(self, weights: str) -> None:
        super().__init__()
        if not Path(weights).exists():
            raise UserError(
                f"--model.net.weights: {weights} does not exist; expected a .pth, .safetensors, or .ckpt file; "
                "after a fit that started from it, use the fit's last.ckpt"
            )
        try:
            descriptor = describe(read_weights(weights).tensors)
        except MisfitError as error:
            raise UserError(f"--model.net.weights: {weights} looks like {error}") from None
        if descriptor is None:
            raise UserError(
                f"--model.net.weights: {weights} fits no network that spandrel opens; use another file{extra_hint()}"
            )
        self._take(descriptor)

    @classmethod
    def from_descriptor(cls, descriptor: "ImageModelDescriptor[nn.Module]") -> "SpandrelNet":
        """Wrap a model that spandrel has opened."""
        net = cls.__new__(cls)
        nn.Module.__init__(net)
        net._take(descriptor)
        return net

    def _take(self, descriptor: "ImageModelDescriptor[nn.Module]") -> None:
        self.spandrel = descriptor.model
        self.architecture = str(descriptor.architecture.id)
        self.scale, self.side = descriptor.scale, FACE_SIDE if descriptor.purpose == "FaceSR" else None
        self.size_requirements = descriptor.size_requirements
        self.multiple = self.side or 1
        self.tiling = descriptor.tiling.name.lower()
        self.supported = {
            torch.float16: descriptor.supports_half,
            torch.bfloat16: descriptor.supports_bfloat16,
        }
        # The public call clamps and records no gradients. The private one only selects one of several outputs and maps
        # [0, 1] to the network's range if needed.
        self._call = descriptor._call_fn
        for part in self._folding_parts():
            part.eval_conv.requires_grad_(False)  # computed from the other weights; never gets a gradient

    def forward(self, lq: Tensor) -> Tensor:
        """Restore images.

        Args:
            lq: (N, 3, h, w) in [0, 1].

        Returns:
            (N, 3, h * scale, w * scale), about [0, 1], not clamped.

        Raises:
            UserError: If the input is of a half-precision type that the network does not support.
        """
        if not self.supported.get(lq.dtype, True):
            raise UserError(f"{self.architecture} does not support {lq.dtype}; set --trainer.precision 32-true")
        device = lq.device.type
        autocast = torch.is_autocast_enabled(device)
        if autocast and not self.supported.get(torch.get_autocast_dtype(device), True):
            autocast = False
        with torch.autocast(device, dtype=torch.get_autocast_dtype(device), enabled=autocast):
            if self.training:
                return self._restore(lq)
            with torch.random.fork_rng([lq.device] if lq.is_cuda else []):
                torch.manual_seed(0)
                if not torch.is_inference_mode_enabled():
                    return self._restore(lq)
                # SPAN computes weights in its forward pass; training cannot use weights made in inference mode
                with torch.inference_mode(False), torch.no_grad():
                    return self._restore(lq)

    def released_weights(self) -> dict[str, Tensor]:
        """Return the weights with the names that spandrel and chaiNNer read."""
        for part in self._folding_parts():
            part.update_params()
        return self.spandrel.state_dict()

    def _folding_parts(self) -> list[nn.Module]:
        """Return the parts that compute a convolution for inference from those for training, as in SPAN."""
        return [part for part in self.spandrel.modules() if hasattr(part, "update_params")]

    def _restore(self, lq: Tensor) -> Tensor:
        height, width = lq.shape[2:]
        restored = self._call(self.spandrel, self._padded(lq.clone()))  # RCAN scales its input in place
        if isinstance(restored, tuple | list):  # in training, some networks also return intermediate results
            restored = restored[0]
        return restored[..., : height * self.scale, : width * self.scale]

    def _padded(self, lq: Tensor) -> Tensor:
        """Pad on the right and at the bottom: by reflection as far as possible, then by replicating the edge."""
        height, width = lq.shape[2:]
        right, below = self.size_requirements.get_padding(width, height)
        if right == below == 0:
            return lq
        mirrored = min(right, width - 1), min(below, height - 1)
        lq = F.pad(lq, (0, mirrored[0], 0, mirrored[1]), mode="reflect")
        return F.pad(lq, (0, right - mirrored[0], 0, below - mirrored[1]), mode="replicate")


def describe(tensors: dict[str, Tensor]) -> "ImageModelDescriptor[nn.Module] | None":
    """Let spandrel build the network to which the weights belong, and load them.

    Args:
        tensors: The weights. Files are read by ``read_weights``, never by spandrel.

    Returns:
        spandrel's descriptor; ``None`` if spandrel does not recognize the names of the weights.

    Raises:
        MisfitError: If the weights are damaged, or the network does not restore RGB images.
    """
    registry = _registry()
    from spandrel import ImageModelDescriptor

    found = next((one for one in registry.architectures("detection") if one.detect(tensors)), None)
    if found is None:
        return None
    name = found.architecture.name
    try:
        with SizeLimit(tensors.values()):
            descriptor = found.architecture.load(dict(tensors))
    except Exception as error:  # spandrel checks names only, so damaged weights can raise anything
        raise MisfitError(f"damaged weights of {name} ({first_misfit(error)}); expected the complete file") from None
    if not isinstance(descriptor, ImageModelDescriptor):
        raise MisfitError(f"{name}, which needs a mask; expected a network that restores images")
    channels = descriptor.input_channels, descriptor.output_channels
    if channels != (3, 3):
        raise MisfitError(f"{name} with {channels[0]} input and {channels[1]} output channels; expected RGB, 3 and 3")
    return descriptor


def extra_hint() -> str:
    """Return a hint on how to install more architectures; empty if they are installed."""
    installed = importlib.util.find_spec("spandrel_extra_arches") is not None
    return "" if installed else f" (for CodeFormer, SRFormer, Restormer, and others: `{EXTRA}`)"


@cache
def _registry() -> "ArchRegistry":
    """Return a registry of all installed architectures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit.script is deprecated, and spandrel uses it on import
        from spandrel import MAIN_REGISTRY

        registry = MAIN_REGISTRY.copy()
        if importlib.util.find_spec("spandrel_extra_arches") is not None:
            from spandrel_extra_arches import EXTRA_REGISTRY

            registry.add(*EXTRA_REGISTRY, ignore_duplicates=True)
    return registry
