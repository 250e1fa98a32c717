"""Where the weights of the networks behind metrics and perceptual losses are found.

Looked up in ``$DDPM_PAIRS_WEIGHTS``, then in torch hub's cache, then downloaded there. Only the standard library is
imported at once, so that ``doctor`` can look as well where torch is broken.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from ddpm_pairs.errors import UserError


@dataclass(frozen=True)
class WeightsFile:
    """The weights of one network.

    Attributes:
        network: the network, and in brackets what needs it.
        patterns: file names it goes by.
        url: where the original is published; its name ends in the first digits of its SHA-256.
        without: how to go without it, as the end of a sentence.
    """

    network: str
    patterns: tuple[str, ...]
    url: str
    without: str


INCEPTION = WeightsFile(
    "Inception (FID, KID)",
    ("pt_inception-2015-12-05*.pth", "weights-inception-2015-12-05*.pth"),
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    "leave fid and kid out of the metrics",
)
ALEXNET = WeightsFile(
    "AlexNet (LPIPS)",
    ("alexnet_features.pth", "alexnet-owt-*.pth"),
    "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    "leave lpips out of the metrics",
)
VGG19 = WeightsFile(
    "VGG19 (perceptual loss)",
    ("vgg19-dcbb9e9d.pth",),
    "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
    "choose the perceptual loss's features lpips, whose weights are smaller",
)


class MissingWeightsError(UserError):
    """The weights are in no folder and could not be downloaded."""


def weights_folders() -> list[Path]:
    """Folders that are searched, in this order; they need not exist."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    torch_home = os.environ.get("TORCH_HOME") or f"{cache}/torch"
    own = os.environ.get("DDPM_PAIRS_WEIGHTS")
    return [*([Path(own)] if own else []), Path(torch_home).expanduser() / "hub" / "checkpoints"]


def find_weights(file: WeightsFile) -> Path | None:
    """The first file of one of its names; None where there is none."""
    found = (path for folder in weights_folders() for pattern in file.patterns for path in sorted(folder.glob(pattern)))
    return next(found, None)


def weights_path(file: WeightsFile) -> Path:
    """Find the weights, or download them into torch hub's cache.

    Raises:
        MissingWeightsError: where neither works; it names the file, where to put it, and how to go without.
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
    except (OSError, RuntimeError) as error:  # no network, no such page, no room, or other bytes than published
        reason = str(error).splitlines()[0]
        raise MissingWeightsError(
            f"the weights of {file.network} are missing and could not be downloaded ({reason}): put {target.name} "
            f"from {file.url} into $DDPM_PAIRS_WEIGHTS or {target.parent}, or {file.without}"
        ) from None
    return target
