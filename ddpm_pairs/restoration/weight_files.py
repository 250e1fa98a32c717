"""Read restorer weights from files of various programs, and describe files that contain something else."""

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from ddpm_pairs.diffusion.diffusers_folder import refuse_compressed
from ddpm_pairs.diffusion.loading import is_plain, read_description
from ddpm_pairs.errors import UserError

EXPECTED = "expected a restorer's weights (.ckpt, .safetensors, or .pth)"

WRAPPERS = (
    "params_ema", "params-ema", "params", "state_dict", "model_state_dict", "model", "g_ema", "g", "net"
)  # fmt: skip
"""Keys under which programs store the weights of a network, in order of preference."""

PREFIXES = ("module.", "netG.")
"""Prefixes that wrappers add to the names of weights."""

PREFIX_OF_SPANDREL = "spandrel."
"""Prefix that ``SpandrelNet`` adds to the names of weights in our checkpoints."""

_SIGNS = {
    "conv9.weight": "a U-Net discriminator (netD)",
    "final_conv.0.weight": "a StyleGAN discriminator",
    "time_embedding.linear_1.weight": "a DDPM's U-Net",
    "input.input": "a StyleGAN2 generator without GPEN's encoder",
    "features.0.weight": "an AlexNet or a VGG",
    "lin0.model.1.weight": "LPIPS",
    "Mixed_5b.branch1x1.conv.weight": "FID's Inception",
    "body.0.rdb1.conv1.weight": "a part of an RRDBNet",
    "fc.weight": "a classifier",
}
"""Names of weights that identify a network."""

_SUFFIXES = {b"\x89PNG": "a PNG image", b"\xff\xd8\xff": "a JPEG image", b"%PDF": "a PDF", b"GIF8": "a GIF"}


class MisfitError(UserError):
    """Weights of a known network that cannot be used; the message completes the phrase "looks like"."""


@dataclass(frozen=True)
class WeightsFromFile:
    """The weights of one network.

    Attributes:
        tensors: Weights by name, without the prefixes of wrappers.
        kind: The kind that the file declares, such as ``restorer`` or ``ddpm``; ``None`` if it declares none.
    """

    tensors: dict[str, Tensor]
    kind: str | None


def read_weights(path: str | Path) -> WeightsFromFile:
    """Read the generator's weights from a file, on the CPU, in their stored types.

    No code from the file is run: pickles are read with ``weights_only=True``. If the file contains several sets of
    weights, the first in ``WRAPPERS`` is taken. From a Lightning checkpoint, the entries ``net.*`` are taken.

    Args:
        path: A ``.safetensors`` file, or a torch pickle with any other suffix (``.ckpt``, ``.pth``, ``.pt``).

    Raises:
        UserError: If the file does not exist or contains no weights.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"checkpoint {path} is a folder, such as an exported DDPM; {EXPECTED}")
    if not path.is_file():
        problem = "is not a regular file" if path.exists() else "does not exist"
        raise UserError(f"checkpoint {path} {problem}; {EXPECTED}")
    content, kind = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    for wrapper in WRAPPERS:
        if isinstance(content.get(wrapper), dict) and content[wrapper]:
            content = content[wrapper]
            break
    if len(content) == 1 and isinstance(next(iter(content.values())), dict):
        content = next(iter(content.values()))
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"checkpoint {path} looks like {_without_weights(content)}; {EXPECTED}")
    if odd := next((name for name, value in tensors.items() if not is_plain(value)), None):
        raise UserError(f"checkpoint {path} contains {odd!r:.80}, which is not a tensor of plain numbers; {EXPECTED}")
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    networks = {name.removeprefix("net."): value for name, value in tensors.items() if name.startswith("net.")}
    tensors = networks or tensors
    if all(name.startswith(PREFIX_OF_SPANDREL) for name in tensors):
        tensors = {name.removeprefix(PREFIX_OF_SPANDREL): value for name, value in tensors.items()}
    return WeightsFromFile(tensors, kind)


def looks_like(weights: WeightsFromFile) -> str:
    """Describe weights that are not a restorer's, for an error message."""
    if weights.kind not in (None, "restorer"):
        return {"ddpm": "a DDPM", "prior": "a GAN prior"}.get(weights.kind, f"a {weights.kind}")
    for sign, name in _SIGNS.items():
        if sign in weights.tensors:
            return name
    names = ", ".join(f"{name!r:.60}" for name in list(weights.tensors)[:2])
    return f"weights of an unknown network ({names})"


def first_misfit(error: Exception) -> str:
    """Return the first mismatch from an error in building or loading a network, without the list of all weights."""
    text = str(error).split("\n\t")[1] if "\n\t" in str(error) else f"{type(error).__name__} {error}"
    return " ".join(text.split())[:120].rstrip(". ")


def _read_safetensors(path: Path) -> tuple[dict[str, Any], str | None]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        content = load_file(path)
    except Exception as error:  # safetensors raises its own errors and Rust's for other files
        raise UserError(f"checkpoint {path} looks like {_of_bytes(path, error)}; {EXPECTED}") from None
    return content, _kind(metadata.get("ddpm_pairs"), path)


def _read_pickle(path: Path) -> tuple[dict[str, Any], str | None]:
    refuse_compressed(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # about what is refused anyway
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types of errors for other files
        raise UserError(f"checkpoint {path} looks like {_of_bytes(path, error)}; {EXPECTED}") from None
    if isinstance(content, Tensor):
        raise UserError(f"checkpoint {path} looks like a single tensor; {EXPECTED}")
    if not isinstance(content, dict):
        raise UserError(f"checkpoint {path} looks like a {type(content).__name__} of values; {EXPECTED}")
    return content, _kind(content.get("ddpm_pairs"), path)


def _kind(value: Any, path: Path) -> str | None:  # noqa: ANN401 - any value that a file has under our key
    description = read_description(value, path)
    return None if description is None else description["kind"]


def _without_weights(content: dict[str, Any]) -> str:
    if "param_groups" in content:
        return "the state of an optimizer"
    if "optimizers" in content:
        return "a training state (optimizers without weights)"
    return (
        "an empty file of weights" if not content else f"a dict without weights ({', '.join(map(str, content))[:60]})"
    )


def _of_bytes(path: Path, refused: Exception) -> str:
    """Identify an unreadable file by its first bytes or the error."""
    try:
        with path.open("rb") as file:
            start = file.read(256)
    except OSError as error:
        return f"a file that cannot be read ({error.strerror})"
    for magic, name in _SUFFIXES.items():
        if start.startswith(magic):
            return name
    if not start:
        return "an empty file"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer; fetch the file with `git lfs pull`"
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "a web page that was saved instead of the file"
    if b"\0" not in start and all(byte >= 32 or byte in b"\t\n\r" for byte in start):
        return "text"
    found = re.search(r"GLOBAL ([\w.]+)", str(refused))
    if found:
        return f"a pickle with Python objects ({found[1]}), which are not loaded for safety"
    if "TorchScript" in str(refused):
        return "a TorchScript archive"
    return f"a damaged file, or one of another type ({type(refused).__name__})"
