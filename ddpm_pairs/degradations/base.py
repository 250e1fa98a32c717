"""What a degradation is, and what the package does with any of them."""

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
from ddpm_pairs.seeding import generator_for

SCALES = (1, 2, 4)
"""HQ side over LQ side that the handcrafted degradations offer."""

MIN_LQ_SIDE = 16
"""Sides of an LQ image, in pixels, at least."""


@runtime_checkable
class Degradation(Protocol):
    """Turns HQ into LQ. A class of your own needs four things: ``name``, ``scale``, ``draw`` and ``apply``.

    Attributes:
        name: Short name, recorded in the manifest.
        scale: HQ sides over LQ sides, an integer.

    Optional, with a default where it is missing:
        multiple: HQ sides must be multiples of this; default ``scale``.
        prepare(device): Moves weights to the device before the first ``apply``.
        spec(): Plain values that rebuild the object, for ``run.yaml``; default: class path and constructor arguments.
        facts(parameters): What a manifest line says about the draw at its top level, such as ``t`` and ``evaluations``.
        apply_with_start(hq, parameters): LQ of an inner degradation and the final LQ; default: the same LQ twice.
        apply_on_hq_grid(hq, parameters): LQ resized back to the HQ grid before it is rounded, see ``OnHQGrid``.

    The command line compares annotations literally, so the types are only in the docstrings.
    """

    def draw(self, generator):  # noqa: ANN001, ANN201
        """Draw the parameters of one image.

        Args:
            generator: ``torch.Generator`` on the CPU, of this image alone.

        Returns:
            ``dict`` of floats, ints, bools, strings, None, lists and dicts, which JSON stores without loss. Seeds of
            noise fields have names that end in ``seed``.
        """
        ...

    def apply(self, hq, parameters):  # noqa: ANN001, ANN201
        """Degrade a batch: a pure function without gradient.

        Row i depends on ``hq[i]`` and ``parameters[i]`` only, bit for bit for one batch size, device and number of
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
        """Draw the parameters of one image from its CPU generator: a dictionary of plain values that JSON can store."""
        ...

    def apply(self, images, parameters, lq_size):  # noqa: ANN001, ANN201
        """Change images (N, 3, H, W) by N sets of parameters; the chain will end at ``lq_size`` (height, width)."""
        ...


class BuiltIn:
    """Base of the degradations of this package: callable, and described by their constructor arguments."""

    def __call__(self, hq: Tensor, seed: int = 0, keys: Sequence[str] | None = None) -> Tensor:
        """Draw and apply; see ``degrade``."""
        return degrade(self, hq, seed, keys)

    def spec(self) -> dict[str, Any]:
        """Name, class path and constructor arguments, from which ``build`` of ``by_name`` rebuilds the object."""
        return {"name": self.name, **described(self)}


def degrade(degradation: Degradation, hq: Tensor, seed: int = 0, keys: Sequence[str] | None = None) -> Tensor:
    """Degrade a batch of HQ images: the same call for every degradation, your own classes included.

    The result is reproducible: image i depends on ``hq[i]``, ``seed`` and ``keys[i]`` only, and is what
    ``lightning predict`` writes for that seed and key.

    Args:
        degradation: Any object with ``name``, ``scale``, ``draw`` and ``apply``.
        hq: (N, 3, H, W), floating, in [0, 1], on any device. Sides are at least 16 * ``scale``; they are cropped, top
            left kept, to a multiple of ``scale``.
        seed: Seed of everything random.
        keys: N names, one per image; ``None`` uses ``"0"``, ``"1"``, ...

    Returns:
        LQ (N, 3, H // scale, W // scale), float32 in [0, 1], rounded to multiples of 1/255, on the device of ``hq``.

    Raises:
        ValueError: If ``hq`` or ``keys`` do not fit.
        UserError: If the images are too small.
    """
    keys = [str(number) for number in range(len(hq))] if keys is None else keys
    check_batch(degradation.name, hq, keys, 1)
    scale = degradation.scale
    height, width = (side // scale for side in hq.shape[-2:])
    if min(height, width) < MIN_LQ_SIDE:
        raise UserError(f"HQ is {too_small(*hq.shape[-2:], scale)}")
    parameters = [degradation.draw(generator_for(seed, key, "degradation")) for key in keys]
    cropped = crop_to_multiple(hq, scale)
    canvas = canvas_size(cropped.shape[-2:], multiple_of(degradation))
    prepare(degradation, hq.device)
    with torch.no_grad():
        return degradation.apply(pad_to_canvas(cropped.float(), canvas), parameters)[..., :height, :width]


def multiple_of(degradation: Degradation) -> int:
    """HQ sides must be multiples of this."""
    return getattr(degradation, "multiple", degradation.scale)


def prepare(degradation: Degradation, device: torch.device) -> None:
    """Move the weights of a degradation, if it has any, to a device."""
    if hasattr(degradation, "prepare"):
        degradation.prepare(device)


def facts_of(degradation: Degradation) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The function from a draw to what a manifest line says about it at its top level; empty for most degradations."""
    return getattr(degradation, "facts", lambda parameters: {})


def apply_with_start(degradation: Degradation, hq: Tensor, parameters: list[dict[str, Any]]) -> tuple[Tensor, Tensor]:
    """The initial LQ, of the degradation that a walk starts from, and the final LQ; elsewhere the two are one."""
    if hasattr(degradation, "apply_with_start"):
        return degradation.apply_with_start(hq, parameters)
    lq = degradation.apply(hq, parameters)
    return lq, lq


def spec_of(degradation: Degradation) -> dict[str, Any]:
    """Plain values that describe a degradation in ``run.yaml``: name, class path, arguments, hashes of weights."""
    return degradation.spec() if hasattr(degradation, "spec") else {"name": degradation.name, **described(degradation)}


def described(part: Any) -> dict[str, Any]:  # noqa: ANN401 - a degradation or an operation of a chain
    """Class path and arguments in the form of a config.

    The arguments are the attribute ``init_args``, which the command line sets for classes that are not ours, or else
    all attributes named like a constructor argument that are plain values, degradations or operations.
    """
    kind = type(part)
    arguments = None if isinstance(part, BuiltIn) else getattr(part, "init_args", None)
    if arguments is None:
        held = {name: getattr(part, name) for name in inspect.signature(kind).parameters if hasattr(part, name)}
        arguments = {}
        for name, value in held.items():
            with suppress(TypeError):
                arguments[name] = _plain(value)
    return {"class_path": public_path(kind), "init_args": _plain(dict(arguments))}


def public_path(kind: type) -> str:
    """The path by which a class is imported: for ours, that of the package which exports it."""
    module = kind.__module__
    if module.startswith(f"{ddpm_pairs.__name__}.degradations."):
        package = f"{ddpm_pairs.__name__}.degradations"
        if getattr(ddpm_pairs.degradations, kind.__name__, None) is kind:
            module = package
    return f"{module}.{kind.__qualname__}"


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever an argument may be
    """A value as a YAML file returns it.

    Raises:
        TypeError: If it is neither plain nor a degradation or an operation.
    """
    if hasattr(value, "draw"):
        return spec_of(value) if hasattr(value, "scale") else described(value)
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else json.loads(json.dumps(value))


def too_small(height: int, width: int, scale: int) -> str:
    """The reason for leaving out an image whose LQ would have a side under 16 px."""
    return f"too small: {width}x{height}, expected {MIN_LQ_SIDE * scale} px or more a side at scale {scale}"


def check_scale(name: str, scale: int) -> int:
    """Return ``scale`` if the handcrafted degradations offer it.

    Raises:
        UserError: If it is not one of ``SCALES``.
    """
    if scale not in SCALES:
        raise UserError(f"{name} got scale {scale!r}: give one of {', '.join(map(str, SCALES))}")
    return scale


def check_batch(name: str, hq: Tensor, parameters: Sequence[Any], multiple: int) -> None:
    """Check what ``apply`` was given.

    Raises:
        ValueError: If ``hq`` is not a floating (N, 3, H, W) batch, N is 0 or not the number of parameters, or a side is
            not a multiple of ``multiple``.
    """
    if hq.ndim != 4 or hq.shape[1] != 3 or not hq.is_floating_point():
        raise ValueError(
            f"{name} got HQ of shape {tuple(hq.shape)} and type {hq.dtype}: give floating (N, 3, H, W) in [0, 1]"
        )
    if len(hq) != len(parameters) or len(hq) == 0:
        raise ValueError(
            f"{name} got {len(hq)} images and {len(parameters)} sets of parameters: give one set per image, "
            "at least one"
        )
    height, width = hq.shape[-2:]
    if height < 1 or width < 1 or height % multiple or width % multiple:
        raise ValueError(f"{name} got HQ of {width}x{height} px: crop both sides to a multiple of {multiple}")


def lq_size(height: int, width: int, scale: int) -> tuple[int, int]:
    """(height, width) of LQ: HQ / scale, rounded up where ``scale`` does not divide HQ."""
    return -(-height // scale), -(-width // scale)
