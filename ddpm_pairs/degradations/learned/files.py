"""Files of learned degradations: checkpoints of a fit, and exports that describe themselves."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any, NotRequired, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import save
from torch import Tensor, nn

from ddpm_pairs.degradations.classes import checked_arguments, class_of
from ddpm_pairs.degradations.learned.synthesizer import Synthesizer
from ddpm_pairs.diffusion.description import Description, NetworkDescription
from ddpm_pairs.diffusion.diffusers_folder import first_line
from ddpm_pairs.diffusion.loading import check_tensors, misfit, read_described
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import write_atomically
from ddpm_pairs.tensors import SizeLimit
from ddpm_pairs.trust import classes_named_by

KIND = "degradation"
"""The kind in the description of every learned degradation; the class of its network tells the methods apart."""

EXPECTED = "expected a learned degradation, a .ckpt of its fit or a .safetensors file"


class DegradationDescription(Description):
    """What a file of a learned degradation says about itself."""

    net: NetworkDescription
    training: NotRequired[dict[str, Any]]


Net = TypeVar("Net", bound=nn.Module)

_FORM = TypeAdapter(DegradationDescription)


def describe(net: nn.Module, training: dict[str, Any] | None = None, kind: str = KIND) -> dict[str, Any]:
    """Return the description of a learned network, for the key ``ddpm_pairs`` of its file.

    Args:
        net: The network or pool, with its constructor's arguments as ``init_args``.
        training: What it was learned from: steps, numbers of images, settings; plain values.
        kind: What the file contains.
    """
    path = f"{type(net).__module__}.{type(net).__qualname__}"
    return {"kind": kind, "net": {"class_path": path, "init_args": net.init_args}, "training": training or {}}


def load_synthesizer(path: str | Path) -> tuple[Synthesizer, dict[str, Any]]:
    """Load a learned degradation from a checkpoint (its averaged weights) or an export.

    Args:
        path: A Lightning ``.ckpt`` or a ``.safetensors`` file.

    Returns:
        The network in eval mode, float32, on the CPU, and ``training`` of its description.

    Raises:
        UserError: If the file is missing or unreadable, contains something else, names a class that is not trusted, or
            does not fit its own description.
    """
    path = Path(path)
    spec, weights = described_weights(path, KIND, EXPECTED)
    class_path = spec["net"]["class_path"]
    with classes_named_by(f"degradation {path}"):
        kind = class_of(class_path)
    if not issubclass(kind, Synthesizer):
        raise UserError(f"degradation {path} names {class_path}, which is not a Synthesizer; {EXPECTED}")
    return filled(kind, spec["net"], path, weights), spec.get("training", {})


def described_weights(path: Path, kind: str, expected: str) -> tuple[DegradationDescription, dict[str, Tensor]]:
    """Read the description and the weights of a file of this kind.

    Args:
        path: A Lightning ``.ckpt`` (its averaged weights) or a ``.safetensors`` file.
        kind: The kind that the description must have.
        expected: What the file should be, for messages.

    Raises:
        UserError: If the file is missing or unreadable, or contains something else.
    """
    spec, weights = read_described(path, expected)
    if spec is None or spec["kind"] != kind:
        found = f"a {spec['kind']}" if spec else "weights without a description"
        raise UserError(f"degradation {path} contains {found}; {expected}")
    try:
        spec = _FORM.validate_python(spec)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        reason = ": ".join([*map(str, first["loc"]), first["msg"]])
        raise UserError(f"degradation {path} has an unusable description ({reason}); {expected}") from None
    check_tensors(weights, path)
    return spec, weights


def save_synthesizer(net: Synthesizer, path: Path, training: dict[str, Any]) -> None:
    """Write a learned degradation as one safetensors file that describes itself.

    Args:
        net: The network or pool.
        path: The file, ending in ``.safetensors``.
        training: See ``describe``.

    Raises:
        OutputError: If the file cannot be written.
    """
    weights = {name: value.detach().cpu().clone().contiguous() for name, value in net.state_dict().items()}
    write_atomically(path, save(weights, {"format": "pt", "ddpm_pairs": json.dumps(describe(net, training))}))


def check_new_file(out: Path, source: Path, option: str) -> None:
    """Check the name of a file to write, ``OUT`` of a verb that makes a degradation.

    Args:
        out: The file.
        source: The folder or file of images that the degradation is made from.
        option: Its name, for the message.

    Raises:
        UserError: If ``out`` does not end in ``.safetensors``, is a folder, or is inside ``source``.
    """
    if out.suffix != ".safetensors":
        raise UserError(f"OUT: got {out}; expected a name ending in .safetensors")
    if out.is_dir():
        raise UserError(f"OUT: got the folder {out}; expected a file or a new name")
    if out.resolve().is_relative_to(source.resolve()):
        raise UserError(f"OUT: got {out}, which is inside {option} {source}; choose another folder")


def content_sha256(net: Synthesizer) -> str:
    """Hash class, arguments and weights: the same for a checkpoint and its export."""
    digest = sha256(json.dumps(describe(net)["net"], sort_keys=True).encode())
    for name, value in sorted(net.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def filled(kind: type[Net], spec: NetworkDescription, path: Path, weights: dict[str, Tensor]) -> Net:
    """Build a network in the sizes of its weights, and fill it.

    Args:
        kind: Its class.
        spec: Its description.
        path: The file, for messages.
        weights: The weights of the file.

    Returns:
        The network in eval mode, float32, on the CPU.

    Raises:
        UserError: If the arguments do not suit the class, or the weights do not fit the network.
    """
    class_path, file = spec["class_path"], f"degradation {path}"
    arguments = checked_arguments(kind, class_path, dict(spec.get("init_args") or {}))
    try:
        with SizeLimit(weights.values()):
            net = kind(**arguments)
    except (MemoryError, RuntimeError, ValueError, OverflowError, ZeroDivisionError) as error:
        raise UserError(f"{file}: its network {class_path} cannot be built ({first_line(error)[:160]})") from error
    if found := misfit(net.state_dict(), weights):
        raise UserError(f"{file} contains weights that do not fit its network ({found})")
    net.load_state_dict(weights)
    return net.float().eval()
