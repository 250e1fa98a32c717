"""Feature networks for scores of whole sets: FID, its 192-d form, and KID."""

from collections.abc import Iterable
from contextlib import redirect_stdout
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from ddpm_pairs.devices import full_float32
from ddpm_pairs.errors import UserError

LAYERS = {"fid": "2048", "fid192": "192"}
"""Inception's layer behind each score; KID uses that of ``fid``."""


class FeatureNetwork(Protocol):
    """What turns pictures into features; any module of this form can take Inception's place.

    Attributes:
        identity: what stands in results and caches for network and weights.
    """

    identity: str

    def __call__(self, pictures: Tensor) -> dict[str, Tensor]:
        """Features (N, d) float32 under each name of ``LAYERS``, for uint8 (N, 3, H, W)."""
        ...


class Inception(nn.Module):
    """torch-fidelity's Inception, which resizes to 299 px as the original FID does (bilinear, no antialiasing).

    One pass gives the features of all scores.

    Args:
        path: Weights in torch-fidelity's form, such as ``weights_path(INCEPTION)``.

    Raises:
        UserError: if the file is no such weights.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            # torch-fidelity unpickles whatever the file holds; a file that loads in this way holds tensors only
            torch.load(path, map_location="meta", weights_only=True)
            with redirect_stdout(StringIO()):
                self.network = FeatureExtractorInceptionV3(
                    "inception-v3-compat", list(LAYERS.values()), feature_extractor_weights_path=str(path)
                )
        except Exception as error:  # torch raises many kinds for files that are no weights
            raise UserError(f"{path} holds no weights of FID's Inception: {str(error).splitlines()[0]}") from None
        self.identity = f"inception-{sha256(path.read_bytes()).hexdigest()[:16]}"

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Features (N, 2048) and (N, 192) of uint8 (N, 3, H, W), under the names of ``LAYERS``."""
        if pictures.device.type == "cpu":  # its convolutions and pools are half again as fast in this layout
            self.network.to(memory_format=torch.channels_last)
        with full_float32(pictures.device):
            return dict(zip(LAYERS, self.network(pictures), strict=True))


class RandomFeatures(nn.Module):
    """A small random network in Inception's place, to try out a pipeline without weights; its scores mean nothing."""

    identity = "random-features-1"

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        kernels = torch.randn(16, 3, 5, 5, generator=generator) / 75**0.5
        # without the mean a kernel sees texture rather than brightness
        self.kernels = nn.Parameter(kernels - kernels.mean(dim=(2, 3), keepdim=True), requires_grad=False)

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Features (N, 32) and (N, 16) of uint8 (N, 3, H, W), under the names of ``LAYERS``."""
        response = F.conv2d(pictures.float() / 127.5 - 1, self.kernels, stride=2, padding=2)
        mean, power = response.mean(dim=(2, 3)), response.square().mean(dim=(2, 3))
        return {"fid": torch.cat([mean, power], dim=1), "fid192": power}


def extract(network: FeatureNetwork, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """Features of uint8 batches (N, 3, H, W), together and on the CPU."""
    parts = [{name: values.cpu() for name, values in network(batch).items()} for batch in batches]
    return {name: torch.cat([part[name] for part in parts]) for name in LAYERS}
