"""Perceptual and style losses: distances in the features of pretrained networks."""

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from ddpm_pairs.errors import UserError
from ddpm_pairs.metrics.lpips_network import lpips_network
from ddpm_pairs.metrics.weights import ALEXNET, VGG19, WeightsFile, weights_path
from ddpm_pairs.run import Run

FEATURES = ("vgg19", "lpips", "random")

TAPS = {2: 0.1, 7: 0.1, 16: 1.0, 25: 1.0, 34: 1.0}
"""Weights of VGG19's features, by torchvision's layer number: conv1_2, 2_2, 3_4, 4_4, 5_4, before the ReLU."""

LAYERS = {"vgg19": len(TAPS), "lpips": 5, "random": 2}
"""Number of layers whose features are compared."""

_WITHOUT = {
    "vgg19": "set --model.perceptual.features lpips, which needs AlexNet, or random, for tests only",
    "lpips": "set --model.perceptual.features vgg19, which needs VGG19, or random, for tests only",
}
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Perceptual(nn.Module):
    """Distance between images in the features of a pretrained network.

    ``vgg19`` is Real-ESRGAN's loss: the L1 distance between VGG19's features before the ReLU (arXiv 2107.10833; the
    default weights of the layers are in ``TAPS``). ``lpips`` is LPIPS 0.1 with AlexNet (Zhang et al. 2018). ``random``
    is a small random network for tests without weights; it teaches nothing.

    The network is loaded by ``load`` or when it is first needed, so a config with this loss also works without its
    weights if nothing is trained. The network is neither trained nor a submodule: it is not in checkpoints or moving
    averages, is moved to the images' device, and is shared by copies of this module.

    Args:
        features: ``vgg19``, ``lpips``, or ``random``.
        layers: Weights of the network's layers, from the first one: five, or two of ``random``. ``None`` takes
            Real-ESRGAN's for ``vgg19`` and 1 for the others. LPIPS itself has weights that were learned; with
            ``lpips``, these are for the style only.

    Raises:
        UserError: If ``features`` has another value, or ``layers`` another length.
    """

    def __init__(
        self, features: Literal["vgg19", "lpips", "random"] = "vgg19", layers: list[float] | None = None
    ) -> None:
        super().__init__()
        if features not in FEATURES:
            raise UserError(f"--model.perceptual.features: got {features!r}; expected vgg19, lpips, or random")
        count = LAYERS[features]
        if layers is not None and (len(layers) != count or not all(0 <= weight < math.inf for weight in layers)):
            raise UserError(
                f"--model.perceptual.layers: got {layers}; expected {count} weights of 0 or more for {features}"
            )
        default = list(TAPS.values()) if features == "vgg19" else [1.0] * count
        self.features, self.layers = features, default if layers is None else list(layers)
        self._unregistered: list[nn.Module] = []  # a plain list, so that torch does not register the network

    def check_run(self, run: Run) -> None:
        """Load the network before a fit starts; see ``load``."""
        if run.verb == "fit":
            self.load()

    def load(self) -> None:
        """Load the network if it is not loaded yet.

        Raises:
            UserError: If the weights are missing or do not fit the network.
        """
        if not self._unregistered:
            network = {"vgg19": _vgg19, "lpips": _LPIPS, "random": _random}[self.features](self.layers)
            self._unregistered.append(network.eval().requires_grad_(False))

    def forward(self, images: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a float32 scalar, with a gradient for ``images``.

        Args:
            images: (N, 3, H, W), about [0, 1], with sides of 32 px or more.
            target: Images of the same shape, in [0, 1].
        """
        return self._network(images.device)(images, target.detach())

    def with_style(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and the style loss, the L1 distance of Gram matrices (Gatys et al. 2016).

        Gram matrices are averaged over positions and divided by the number of channels, and the distances of the layers
        are weighted by ``layers``.

        Args:
            images: As in ``forward``.
            target: As in ``forward``.
        """
        return self._network(images.device).with_style(images, target.detach())

    def _network(self, device: torch.device) -> nn.Module:
        self.load()
        network = self._unregistered[0]
        if next(network.parameters()).device != device:
            network.to(device)
        return network

    def __deepcopy__(self, memo: dict[int, Any]) -> "Perceptual":
        """Return a module that shares the network, which never changes."""
        same = object.__new__(type(self))
        nn.Module.__init__(same)
        same.features, same.layers, same._unregistered = self.features, self.layers, self._unregistered
        return same


class _FeatureDistance(nn.Module):
    """Weighted sum of L1 distances between features at some layers, for images normalized as in ImageNet.

    Args:
        layers: The layers, in order.
        taps: Weights by layer number.
    """

    def __init__(self, layers: nn.Sequential, taps: dict[int, float]) -> None:
        super().__init__()
        self.layers, self.taps = layers, taps
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(_STD)[:, None, None])

    def forward(self, images: Tensor, target: Tensor) -> Tensor:
        return _distance(self.taps.values(), *self._both(images, target))

    def with_style(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        both = self._both(images, target)
        return _distance(self.taps.values(), *both), _style(self.taps.values(), *both)

    def _both(self, images: Tensor, target: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        with torch.no_grad():
            wanted = self._features(target)
        return self._features(images), wanted

    def _features(self, images: Tensor) -> list[Tensor]:
        x, tapped = (images - self.mean) / self.std, []
        for number, layer in enumerate(self.layers):
            x = layer(x)
            if number in self.taps:
                tapped.append(x)
        return tapped


def _distance(weights: Iterable[float], found: list[Tensor], wanted: list[Tensor]) -> Tensor:
    layers = zip(weights, found, wanted, strict=True)
    return sum(weight * F.l1_loss(ours.float(), theirs.float()) for weight, ours, theirs in layers)


def _style(weights: Iterable[float], found: list[Tensor], wanted: list[Tensor]) -> Tensor:
    return _distance(weights, [gram(one) for one in found], [gram(one) for one in wanted])


def gram(features: Tensor) -> Tensor:
    """Return the Gram matrices (N, C, C) of features (N, C, H, W): mean products of channels, divided by C."""
    flat = features.float().flatten(2)
    return flat @ flat.mT / flat[0].numel()


def _vgg19(weights: list[float]) -> nn.Module:
    path = _path(VGG19, "vgg19")
    with torch.device("meta"):  # no memory or time for weights that are replaced immediately
        layers = torchvision.models.vgg19().features[: max(TAPS) + 1]
    for layer in layers:
        if isinstance(layer, nn.ReLU):
            layer.inplace = False  # in place, it would overwrite the features before it
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        own = {name: stored[f"features.{name}"].float() for name in layers.state_dict()}
        layers.load_state_dict(own, assign=True)
    except Exception as error:  # torch raises many types of errors for files without weights
        raise UserError(f"{path} contains no weights of VGG19: {str(error).splitlines()[0]}") from None
    return _FeatureDistance(layers, dict(zip(TAPS, weights, strict=True)))


def _random(weights: list[float]) -> nn.Module:
    widths = (3, 16, 32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        convs = [nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(widths[:-1], widths[1:], strict=True)]
    return _FeatureDistance(nn.Sequential(convs[0], nn.ReLU(), convs[1]), dict(zip((0, 2), weights, strict=True)))


class _LPIPS(nn.Module):
    """LPIPS of images in [0, 1], averaged over the batch."""

    def __init__(self, weights: list[float]) -> None:
        super().__init__()
        self.network, self.weights = lpips_network(_path(ALEXNET, "lpips")), weights

    def forward(self, images: Tensor, target: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            return self.network(images.float() * 2 - 1, target.float() * 2 - 1).mean()

    def with_style(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(images.device.type, enabled=False):
            found, wanted = (self._features(one.float() * 2 - 1) for one in (images, target))
            return self(images, target), _style(self.weights, found, wanted)

    def _features(self, images: Tensor) -> list[Tensor]:
        return list(self.network.net(self.network.scaling_layer(images)))


def _path(file: WeightsFile, features: str) -> Path:
    return weights_path(replace(file, without=_WITHOUT[features]))
