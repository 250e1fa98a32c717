"""Find or download the weights of the networks behind metrics and perceptual losses.

They are looked up in ``$DDPM_PAIRS_WEIGHTS``, then in torch hub's cache, then downloaded to that cache. Importing this
module loads only the standard library, so ``doctor`` can use it with a broken torch.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from ddpm_pairs.errors import UserError


@dataclass(frozen=True)
class WeightsFile:
    """The weights of one network.

    Attributes:
        network: Name of the network and, in parentheses, what needs it.
        patterns: Glob patterns of its file name.
        url: Where the original is published; its name ends with the first digits of its SHA-256.
        without: How to do without it, as the end of a sentence.
    """

    network: str
    patterns: tuple[str, ...]
    url: str
    without: str


INCEPTION = WeightsFile(
    "Inception (FID, KID)",
    ("pt_inception-2015-12-05*.pth", "weights-inception-2015-12-05*.pth"),
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    "remove fid and kid from the metrics",
)
ALEXNET = WeightsFile(
    "AlexNet (LPIPS)",
    ("alexnet_features.pth", "alexnet-owt-*.pth"),
    "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    "remove lpips from the metrics",
)
VGG19 = WeightsFile(
    "VGG19 (perceptual loss)",
    ("vgg19-dcbb9e9d.pth",),
    "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
    "set the features of the perceptual loss to lpips, whose weights are smaller",
)


class MissingWeightsError(UserError):
    """The weights were neither found nor downloaded."""


def weights_folders() -> list[Path]:
    """Return the folders to search, in order; they need not exist."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    torch_home = os.environ.get("TORCH_HOME") or f"{cache}/torch"
    own = os.environ.get("DDPM_PAIRS_WEIGHTS")
    return [*([Path(own)] if own else []), Path(torch_home).expanduser() / "hub" / "checkpoints"]


def find_weights(file: WeightsFile) -> Path | None:
    """Return the first file that matches; ``None`` if there is none."""
    found = (path for folder in weights_folders() for pattern in file.patterns for path in sorted(folder.glob(pattern)))
    return next(found, None)


def weights_path(file: WeightsFile) -> Path:
    """Find the weights, or download them into torch hub's cache.

    Raises:
        MissingWeightsError: If neither works; the message names the file, where to put it, and how to do without it.
    """
    found = find_weights(file)
    if found is not None:
        return found
    import torch

    target = weights_folders()[-1] / file.url.rpartition("/")[2]
    digits = target.stem.rpartition("-")[2]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(file.url, str(target), hash_prefix=digits)
    except (OSError, RuntimeError) as error:  # no network, no such page, no space, or a wrong hash
        reason = str(error).splitlines()[0]
        raise MissingWeightsError(
            f"the weights of {file.network} are missing and could not be downloaded ({reason}); save {target.name} "
            f"from {file.url} to $DDPM_PAIRS_WEIGHTS or {target.parent}, or {file.without}"
        ) from None
    return target
