"""Feature networks for set scores: FID, FID at 192 dimensions, and KID."""

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

from ddpm_pairs.errors import UserError
from ddpm_pairs.metrics.weights import INCEPTION
from ddpm_pairs.tensors import full_float32

LAYERS = {"fid": "2048", "fid192": "192"}
"""Inception layer of each score; KID uses that of ``fid``."""


class FeatureNetwork(Protocol):
    """Turns images into features; any module with this interface can replace Inception.

    Attributes:
        identity: Identifies network and weights in results and caches.
    """

    identity: str

    def __call__(self, pictures: Tensor) -> dict[str, Tensor]:
        """Return float32 features (N, d) under each name of ``LAYERS``, for uint8 (N, 3, H, W)."""
        ...


class Inception(nn.Module):
    """torch-fidelity's Inception, which resizes to 299 px like the original FID (bilinear, no antialiasing).

    One pass returns the features of all scores.

    Args:
        path: Weights in torch-fidelity's format, such as ``weights_path(INCEPTION)``.

    Raises:
        UserError: If the file does not contain these weights.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            # torch-fidelity unpickles anything; a file that loads here contains nothing but tensors
            torch.load(path, map_location="meta", weights_only=True)
            with redirect_stdout(StringIO()):
                self.network = FeatureExtractorInceptionV3(
                    "inception-v3-compat", list(LAYERS.values()), feature_extractor_weights_path=str(path)
                )
        except Exception as error:  # torch raises many types for files without weights
            reason = str(error).splitlines()[0]
            raise UserError(
                f"got {path} ({reason}); expected weights of FID's Inception in torch-fidelity's format; "
                f"download {INCEPTION.url}"
            ) from None
        self.identity = f"inception-{sha256(path.read_bytes()).hexdigest()[:16]}"

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Return features (N, 2048) and (N, 192) of uint8 (N, 3, H, W) under the names of ``LAYERS``."""
        if pictures.device.type == "cpu":  # 1.5x as fast in this layout
            self.network.to(memory_format=torch.channels_last)
        with full_float32(pictures.device):
            return dict(zip(LAYERS, self.network(pictures), strict=True))


class RandomFeatures(nn.Module):
    """A small random network instead of Inception, to try a pipeline without weights; its scores mean nothing."""

    identity = "random-features-1"

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        kernels = torch.randn(16, 3, 5, 5, generator=generator) / 75**0.5
        # without its mean, a kernel responds to texture rather than brightness
        self.kernels = nn.Parameter(kernels - kernels.mean(dim=(2, 3), keepdim=True), requires_grad=False)

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Return features (N, 32) and (N, 16) of uint8 (N, 3, H, W) under the names of ``LAYERS``."""
        response = F.conv2d(pictures.float() / 127.5 - 1, self.kernels, stride=2, padding=2)
        mean, power = response.mean(dim=(2, 3)), response.square().mean(dim=(2, 3))
        return {"fid": torch.cat([mean, power], dim=1), "fid192": power}


def extract(network: FeatureNetwork, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """Concatenate the features of uint8 batches (N, 3, H, W) on the CPU."""
    parts = [{name: values.cpu() for name, values in network(batch).items()} for batch in batches]
    return {name: torch.cat([part[name] for part in parts]) for name in LAYERS}
