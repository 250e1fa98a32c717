"""The protocol of degradations, and functions that work with any of them."""

import inspect
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

import ddpm_pairs
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.pixels import canvas_size, crop_to_multiple, pad_to_canvas
from ddpm_pairs.tensors import generator_for

SCALES = (1, 2, 4)
"""Scales (HQ side over LQ side) that the handcrafted degradations support."""

MIN_LQ_SIDE = 16
"""Minimum side of an LQ image, in pixels."""


@runtime_checkable
class Degradation(Protocol):
    """Turn HQ into LQ. A class of your own needs four members: ``name``, ``scale``, ``draw`` and ``apply``.

    Attributes:
        name: Short name, recorded in the manifest.
        scale: HQ sides over LQ sides, an integer.

    Optional members, each with a default:
        multiple: HQ sides must be multiples of this; default: ``scale``.
        prepare(device): Moves weights to the device before the first ``apply``.
        spec(): Plain values that rebuild the object, for ``run.yaml``; default: class path and constructor arguments.
        facts(parameters): Top-level values of the manifest line, such as ``t`` and ``evaluations``; default: none.
        apply_with_start(hq, parameters): LQ of an inner degradation and the final LQ; default: the same LQ twice.
        apply_on_hq_grid(hq, parameters): LQ resized back to the HQ grid before it is rounded, see ``OnHQGrid``.

    The command line compares annotations literally, so types are given only in the docstrings.
    """

    def draw(self, generator):  # noqa: ANN001, ANN201
        """Draw the parameters of one image.

        Args:
            generator: ``torch.Generator`` on the CPU, used only for this image.

        Returns:
            ``dict`` of floats, ints, bools, strings, ``None``, lists and dicts, which JSON stores without loss. The
            names of seeds of noise fields end in ``seed``.
        """
        ...

    def apply(self, hq, parameters):  # noqa: ANN001, ANN201
        """Degrade a batch: a pure function without gradient.

        Row i depends only on ``hq[i]`` and ``parameters[i]``, bit for bit for a given batch size, device and number of
        threads.

        Args:
            hq: ``Tensor`` (N, 3, H, W), floating, in [0, 1], on any device; H and W are multiples of ``multiple``.
            parameters: N results of ``draw``.

        Returns:
            ``Tensor`` (N, 3, H / scale, W / scale), float32 in [0, 1], rounded to multiples of 1/255.
        """
        ...


@runtime_checkable
class Operation(Protocol):
    """One step of a ``Chain``."""

    def draw(self, generator):  # noqa: ANN001, ANN201
        """Draw the parameters of one image from its CPU generator, as a ``dict`` of plain values for JSON."""
        ...

    def apply(self, images, parameters, lq_size):  # noqa: ANN001, ANN201
        """Apply N sets of parameters to images (N, 3, H, W); the chain ends at ``lq_size`` (height, width)."""
        ...


class BuiltIn:
    """Base of the degradations in this package: callable, and described by their constructor arguments."""

    def __call__(self, hq: Tensor, seed: int = 0, keys: Sequence[str] | None = None) -> Tensor:
        """Draw parameters and apply them; see ``degrade``."""
        return degrade(self, hq, seed, keys)

    def spec(self) -> dict[str, Any]:
        """Return name, class path and constructor arguments, from which ``by_name.build`` rebuilds the object."""
        return {"name": self.name, **described(self)}


def degrade(degradation: Degradation, hq: Tensor, seed: int = 0, keys: Sequence[str] | None = None) -> Tensor:
    """Degrade a batch of HQ images with any degradation, including your own classes.

    The result is reproducible: image i depends only on ``hq[i]``, ``seed`` and ``keys[i]``, and is the same that
    ``lightning predict`` writes for that seed and key.

    Args:
        degradation: Any object with ``name``, ``scale``, ``draw`` and ``apply``.
        hq: (N, 3, H, W), floating, in [0, 1], on any device. Sides must be at least 16 * ``scale``; they are cropped at
            the bottom and right to a multiple of ``scale``.
        seed: Seed of all random numbers.
        keys: N names, one per image; ``None`` uses ``"0"``, ``"1"``, ...

    Returns:
        LQ (N, 3, H // scale, W // scale), float32 in [0, 1], rounded to multiples of 1/255, on the device of ``hq``.

    Raises:
        ValueError: If the shape or type of ``hq`` or the number of ``keys`` is wrong.
        UserError: If the images are too small or not in [0, 1], or the degradation lacks a member.
    """
    check_members(degradation)
    keys = [str(number) for number in range(len(hq))] if keys is None else keys
    check_batch(degradation.name, hq, keys, 1)
    low, high = hq.min().item(), hq.max().item()
    if not (low >= 0 and high <= 1):
        raise UserError(f"HQ: got values from {low:g} to {high:g}; expected 0 to 1 (divide 8-bit values by 255)")
    scale = degradation.scale
    height, width = (side // scale for side in hq.shape[-2:])
    if min(height, width) < MIN_LQ_SIDE:
        raise UserError(f"HQ is {too_small(*hq.shape[-2:], scale)}")
    parameters = [degradation.draw(generator_for(seed, key, "degradation")) for key in keys]
    cropped = crop_to_multiple(hq, scale)
    canvas = canvas_size(cropped.shape[-2:], multiple_of(degradation))
    prepare(degradation, hq.device)
    padded = pad_to_canvas(cropped.float(), canvas)
    with torch.no_grad():
        return check_lq(degradation, degradation.apply(padded, parameters), padded)[..., :height, :width]


def check_members(degradation: Any) -> None:  # noqa: ANN401 - what a user gave as a degradation
    """Check that an object has what every degradation needs; a class of your own may be wrong.

    Raises:
        UserError: If a member is missing, or ``scale`` or ``multiple`` is not a positive integer.
    """
    kind = type(degradation).__name__
    for name in ("name", "scale", "draw", "apply"):
        if not hasattr(degradation, name):
            raise UserError(f"degradation {kind} has no `{name}`; expected name, scale, draw and apply")
    if not isinstance(degradation.name, str) or not degradation.name:
        raise UserError(f"degradation {kind}: got the name {degradation.name!r}; expected a text")
    for name, value in (
        ("scale", degradation.scale),
        ("multiple", getattr(degradation, "multiple", degradation.scale)),
    ):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"degradation {kind}: got the {name} {value!r}; expected an integer of 1 or more")


def multiple_of(degradation: Degradation) -> int:
    """Return the number of which HQ sides must be multiples."""
    return getattr(degradation, "multiple", degradation.scale)


def prepare(degradation: Degradation, device: torch.device) -> None:
    """Move the weights of a degradation, if it has any, to a device."""
    if hasattr(degradation, "prepare"):
        degradation.prepare(device)


def facts_of(degradation: Degradation) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return the function from drawn parameters to the top-level values of a manifest line; most have none."""
    return getattr(degradation, "facts", lambda parameters: {})


def apply_with_start(degradation: Degradation, hq: Tensor, parameters: list[dict[str, Any]]) -> tuple[Tensor, Tensor]:
    """Return the initial LQ of a walk and the final LQ; without a walk, both are the same tensor."""
    if hasattr(degradation, "apply_with_start"):
        return degradation.apply_with_start(hq, parameters)
    lq = check_lq(degradation, degradation.apply(hq, parameters), hq)
    return lq, lq


def spec_of(degradation: Degradation) -> dict[str, Any]:
    """Describe a degradation in plain values for ``run.yaml``: name, class path, arguments, hashes of weights."""
    return degradation.spec() if hasattr(degradation, "spec") else {"name": degradation.name, **described(degradation)}


def described(part: Any) -> dict[str, Any]:  # noqa: ANN401 - a degradation or an operation of a chain
    """Return class path and arguments in the form of a config.

    The arguments are the attribute ``init_args``, which the command line sets for classes outside of this package.
    Without it, they are all attributes that have the name of a constructor argument and are plain values, degradations
    or operations.
    """
    kind = type(part)
    arguments = None if isinstance(part, BuiltIn) else getattr(part, "init_args", None)
    if arguments is None:
        held = {name: getattr(part, name) for name in inspect.signature(kind).parameters if hasattr(part, name)}
        arguments = {}
        for name, value in held.items():
            with suppress(TypeError):
                arguments[name] = _plain(value)
    return {"class_path": public_path(kind), "init_args": _plain(dict(arguments), default=str)}


def public_path(kind: type) -> str:
    """Return the import path of a class; for classes of this package, that of the folder that exports it."""
    module = kind.__module__
    if module.startswith(f"{ddpm_pairs.__name__}.degradations."):
        package = f"{ddpm_pairs.__name__}.degradations"
        if getattr(ddpm_pairs.degradations, kind.__name__, None) is kind:
            module = package
    return f"{module}.{kind.__qualname__}"


def _plain(value: Any, default: Callable[[Any], str] | None = None) -> Any:  # noqa: ANN401 - whatever an argument may be
    """Convert a value to the form in which a YAML file returns it.

    Args:
        value: The value.
        default: What converts parts that are not plain, such as paths.

    Raises:
        TypeError: If it is not a plain value, a degradation or an operation, and there is no ``default``.
    """
    if hasattr(value, "draw"):
        return spec_of(value) if hasattr(value, "scale") else described(value)
    if isinstance(value, dict):
        return {str(name): _plain(one, default) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, default) for one in value]
    return json.loads(json.dumps(value, default=default))


def too_small(height: int, width: int, scale: int) -> str:
    """Return the reason why an image is skipped whose LQ would have a side below 16 px."""
    return f"too small: got {width}x{height} px; expected {MIN_LQ_SIDE * scale} px or more per side at scale {scale}"


def check_scale(name: str, scale: int) -> int:
    """Return ``scale`` if the handcrafted degradations support it.

    Raises:
        UserError: If it is not one of ``SCALES``.
    """
    if scale not in SCALES:
        raise UserError(f"{name} scale: got {scale!r}; expected one of {', '.join(map(str, SCALES))}")
    return scale


def check_batch(name: str, hq: Tensor, parameters: Sequence[Any], multiple: int) -> None:
    """Check the arguments of ``apply``.

    Raises:
        ValueError: If ``hq`` is not a floating-point (N, 3, H, W) batch, N is 0 or not the number of parameters, or a
            side is not a multiple of ``multiple``.
    """
    if hq.ndim != 4 or hq.shape[1] != 3 or not hq.is_floating_point():
        raise ValueError(
            f"{name}: got HQ of shape {tuple(hq.shape)} and type {hq.dtype}; expected floating (N, 3, H, W) in [0, 1]"
        )
    if len(hq) != len(parameters) or len(hq) == 0:
        raise ValueError(
            f"{name}: got {len(hq)} images and {len(parameters)} sets of parameters; expected one set per image, "
            "at least one"
        )
    height, width = hq.shape[-2:]
    if height < 1 or width < 1 or height % multiple or width % multiple:
        raise ValueError(f"{name}: got HQ of {width}x{height} px; expected multiples of {multiple}")


def check_lq(degradation: Degradation, lq: Tensor, hq: Tensor) -> Tensor:
    """Return what ``apply`` returned for ``hq``, if shape and type are right; a class of your own may be wrong.

    Raises:
        ValueError: If they are not.
    """
    expected = (len(hq), 3, *lq_size(*hq.shape[-2:], degradation.scale))
    if not isinstance(lq, Tensor) or tuple(lq.shape) != expected or lq.dtype != torch.float32:
        got = f"{tuple(lq.shape)}, {lq.dtype}" if isinstance(lq, Tensor) else f"a {type(lq).__name__}"
        raise ValueError(
            f"{type(degradation).__name__}.apply returned {got}; expected {expected}, torch.float32, for HQ of shape "
            f"{tuple(hq.shape)} at scale {degradation.scale}"
        )
    return lq


def lq_size(height: int, width: int, scale: int) -> tuple[int, int]:
    """Return (height, width) of LQ: HQ / scale, rounded up."""
    return -(-height // scale), -(-width // scale)
