"""Load denoisers from checkpoints, safetensors exports and diffusers folders."""

import importlib
import inspect
import warnings
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ddpm_pairs.diffusion.denoiser import KIND, UNET_CLASS, Denoiser, UNet
from ddpm_pairs.diffusion.description import ANY, DENOISER, MOST_DESCRIPTION_BYTES
from ddpm_pairs.diffusion.diffusers_folder import first_line, read_folder, read_pickle
from ddpm_pairs.diffusion.schedule import Schedule
from ddpm_pairs.errors import UserError
from ddpm_pairs.tensors import SizeLimit
from ddpm_pairs.trust import check_trusted

MOST_LAYERS = 100
"""Most levels of a U-Net and layers of a level; the tensors themselves take no memory before they are compared."""

OWN_UNETS = (UNET_CLASS, "ddpm_pairs.diffusion.UNet", "ddpm_pairs.diffusion.denoiser.UNet")


def read_description(value: Any, path: str | Path) -> dict[str, Any] | None:  # noqa: ANN401 - whatever a file has
    """Check what a file has under the key ``ddpm_pairs``; every reader of weights calls this.

    Args:
        value: JSON from the metadata of a safetensors file, or the value from a pickle; ``None`` if there is none.
        path: The file, for messages.

    Returns:
        The description, with at least its ``kind``; ``None`` if there is none.

    Raises:
        UserError: If it is not plain, is too large or too deeply nested, or lacks a value.
    """
    if value is None:
        return None
    try:
        text = value.encode() if isinstance(value, str) else to_json(value)
        plain = from_json(text[:MOST_DESCRIPTION_BYTES], allow_inf_nan=False)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise _unusable(path, first_line(error)[:160]) from None
    return _validated(ANY, plain if isinstance(value, str) else value, path)


def _validated(form: TypeAdapter[Any], value: Any, path: str | Path) -> dict[str, Any]:  # noqa: ANN401
    try:
        return form.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise _unusable(path, ": ".join([*map(str, first["loc"]), first["msg"]])) from None


def _unusable(path: str | Path, reason: str) -> UserError:
    return UserError(f"checkpoint {path} has an unusable description ({reason}); use a file that this program wrote")


def load_denoiser(path: str | Path, net_class: type[nn.Module] | None = None) -> Denoiser:
    """Load network, schedule and weights from a checkpoint, a safetensors export or a diffusers folder.

    Args:
        path: A Lightning ``.ckpt`` (its EMA weights are used), a ``.safetensors`` file written by ``ddpm-pairs
            export``, or a diffusers folder with ``unet/`` and ``scheduler/`` (or with the files of both directly
            inside it, as in early public DDPMs).
        net_class: A class of your own that the file may name, besides those in ``trust_classes``.

    Returns:
        The denoiser in eval mode, float32, on the CPU.

    Raises:
        UserError: If the file is missing or unreadable, is not a DDPM, names a class that is not trusted, or does not
            fit its own description.
    """
    path = Path(path)
    if path.is_dir():
        spec, weights = read_folder(path)
        spec = read_description(spec, path)
    else:
        spec, weights = read_described(path, "expected a .ckpt or .safetensors file, or a diffusers folder")
    if spec is None or spec["kind"] != KIND:
        held = f"a {spec['kind']}" if spec else f"no DDPM, but weights such as {next(iter(weights), 'none')!r:.80}"
        raise UserError(
            f"checkpoint {path} contains {held}; expected a DDPM trained by `lightning fit --config ddpm.yaml`"
        )
    spec = _validated(DENOISER, spec, path)
    check_tensors(weights, path)
    net = build_network(spec["net"], f"checkpoint {path}", weights, net_class)
    try:
        denoiser = Denoiser(net, Schedule.of(spec), spec["prediction_type"], spec["t_max"])
    except UserError as error:
        raise UserError(f"checkpoint {path}: {error}") from None
    try:
        denoiser.net.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(
            f"checkpoint {path} contains weights that do not fit its network ({_mismatch(error)})"
        ) from None
    denoiser.source = str(path.resolve())
    return denoiser.float().eval()


def read_described(path: Path, expected: str) -> tuple[dict[str, Any] | None, Any]:
    """Read the description and the weights of a checkpoint or a safetensors export; no code from the file is run.

    Args:
        path: A Lightning ``.ckpt``, of which the entries ``net.*`` are taken, or a ``.safetensors`` file.
        expected: What the file should be, for the message.

    Returns:
        The description (``None`` if the file has none), and the weights by name on the CPU; in a file without a
        description, they may be anything.

    Raises:
        UserError: If the file is missing or unreadable, or its description is unusable.
    """
    if not path.is_file():
        problem = "is not a regular file" if path.exists() else "does not exist"
        raise UserError(f"checkpoint {path} {problem}; {expected}")
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_checkpoint(path)


def read_kind(path: Path) -> str | None:
    """Return the kind in the description of a checkpoint or an export; ``None`` if the file has none.

    Raises:
        UserError: If the file is unreadable, or its description is unusable.
    """
    if path.suffix == ".safetensors":
        value = _metadata(path).get("ddpm_pairs")
    else:
        checkpoint = read_pickle(path)
        value = checkpoint.get("ddpm_pairs") if isinstance(checkpoint, dict) else None
    description = read_description(value, path)
    return None if description is None else description["kind"]


def build_network(
    spec: dict[str, Any], file: str, weights: dict[str, Tensor], net_class: type[nn.Module] | None = None
) -> nn.Module:
    """Build a network from its ``network_spec``, in the sizes of its weights.

    Args:
        spec: ``class_path`` and ``init_args``.
        file: What contains it, for messages.
        weights: The weights, on the CPU; a network that is far larger is refused before it takes memory.
        net_class: A class of your own that the file may name, besides those in ``trust_classes``.

    Raises:
        UserError: If the class is not trusted, cannot be imported, is not an ``nn.Module``, or does not accept these
            arguments, or the network is larger than the weights.
    """
    path, arguments = spec["class_path"], dict(spec.get("init_args") or {})
    if path in OWN_UNETS:
        return _build_unet(path, arguments, file, weights)
    if net_class is not None and path == f"{net_class.__module__}.{net_class.__qualname__}":
        network_class = net_class
    else:
        check_trusted(path, file)
        network_class = _import(path, file)
    try:
        inspect.signature(network_class).bind(**arguments)
    except TypeError as error:
        raise UserError(
            f"{file}: its network {path} cannot be built ({error}); check if its class has changed"
        ) from None
    try:
        with SizeLimit(weights.values()):
            net = network_class(**arguments)
    except MemoryError as error:
        raise UserError(f"{file}: its network {path} cannot be built ({error})") from None
    net.init_args = arguments
    return net


def _import(path: str, file: str) -> type[nn.Module]:
    module, _, name = path.rpartition(".")
    try:
        network_class = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{file}: its network {path} cannot be imported ({error}); install its package") from None
    if not (isinstance(network_class, type) and issubclass(network_class, nn.Module)):
        raise UserError(f"{file}: its network {path} is not a torch.nn.Module")
    return network_class


def _build_unet(path: str, arguments: dict[str, Any], file: str, weights: dict[str, Tensor]) -> UNet:
    """Build and run a U-Net without memory first, and compare it with the weights."""
    build = UNet.from_diffusers if path == UNET_CLASS else lambda values: UNet(**values)
    try:
        counts = [len(value) for value in arguments.values() if isinstance(value, list)]
        counts += [value for value in [arguments.get("layers_per_block")] if isinstance(value, int)]
        if max(counts, default=0) > MOST_LAYERS:
            raise ValueError(f"it has more than {MOST_LAYERS} layers or levels")
        with warnings.catch_warnings(action="ignore"), torch.device("meta"):
            outline = build(arguments)
            images = torch.zeros(1, 3, 2 * outline.multiple, 2 * outline.multiple)
            if outline(images, torch.zeros(1, dtype=torch.int64)).shape != images.shape:
                raise ValueError("its output has another size than its input")
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    except Exception as error:  # diffusers raises any type for arguments that it does not know
        raise UserError(
            f"{file}: its U-Net cannot be built ({type(error).__name__}: {first_line(error)[:160]}); install a newer "
            "diffusers, or get the file again"
        ) from None
    if found := misfit(outline.state_dict(), weights):
        raise UserError(f"{file} contains weights that do not fit its network ({found})")
    return build(arguments)


def misfit(expected: dict[str, Tensor], weights: dict[str, Tensor]) -> str | None:
    """Describe the first difference between the weights of a network and those of a file; ``None`` if there is none."""
    for word, names in (
        ("Missing", expected.keys() - weights.keys()),
        ("Unexpected", weights.keys() - expected.keys()),
    ):
        if names:
            return f"{word} key {min(names)!r:.120}"
    for name, value in weights.items():
        if value.shape != expected[name].shape:
            return f"{name} is {list(value.shape)} instead of {list(expected[name].shape)}"
    return None


def is_plain(tensor: Tensor) -> bool:
    """Return whether a tensor is dense and holds real numbers; pickles may contain any."""
    return tensor.layout == torch.strided and not (tensor.is_meta or tensor.is_quantized or tensor.is_complex())


def check_tensors(weights: Any, path: Path) -> None:  # noqa: ANN401 - whatever a pickle has
    """Raise ``UserError`` unless weights from a file are dense tensors of real numbers by name."""
    if not isinstance(weights, dict):
        raise UserError(f"checkpoint {path} contains a {type(weights).__name__} as its weights; expected a dict")
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise UserError(f"checkpoint {path} contains {name!r:.80}, a {type(value).__name__}; expected only weights")
        if not is_plain(value):
            raise UserError(f"checkpoint {path} contains {name!r:.80}, which is not a tensor of plain numbers")


def _read_checkpoint(path: Path) -> tuple[dict[str, Any] | None, Any]:
    checkpoint = read_pickle(path)
    if not isinstance(checkpoint, dict):
        return None, {}
    spec, state = read_description(checkpoint.get("ddpm_pairs"), path), checkpoint.get("state_dict", checkpoint)
    if spec is None or not isinstance(state, dict):
        return spec, state
    own = [name for name in state if isinstance(name, str) and name.startswith("net.")]
    return spec, {name.removeprefix("net."): state[name] for name in own}


def _read_safetensors(path: Path) -> tuple[dict[str, Any] | None, dict[str, Tensor]]:
    metadata = _metadata(path)
    try:
        weights = load_file(path)
    except Exception as error:  # safetensors raises its own errors and those of Rust
        raise _not_safetensors(path, error) from None
    return read_description(metadata.get("ddpm_pairs"), path), weights


def _metadata(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except Exception as error:  # as above
        raise _not_safetensors(path, error) from None


def _not_safetensors(path: Path, error: Exception) -> UserError:
    return UserError(f"checkpoint {path} is not a safetensors file ({first_line(error)})")


def _mismatch(error: Exception) -> str:
    """Return the first mismatch that torch reports, without the list of all weights."""
    return " ".join(str(error).split("\n\t")[1:2])[:160].rstrip(". ") or first_line(error)
