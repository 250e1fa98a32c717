"""Build a degradation from what the user gave, in ``predict``, ``preview``, the t study and Python.

A degradation is given as

* a short name: ``bicubic``, ``classical``, ``classical_faces``, ``bsrgan``, ``real_esrgan``,
  ``gaussian_noise``;
* a class path, ``package.module.Class``, or ``{"class_path": ..., "init_args": {...}}``;
* a YAML file with a list of operations or a mapping, a config of pairs, or the output of ``ddpm-pairs calibrate``;
* the weights of a learned degradation: the checkpoint of its fit, an export, or the name of shipped weights;
* an object with ``name``, ``scale``, ``draw`` and ``apply``.
"""

import inspect
import os
import re
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from ddpm_pairs.bounded_yaml import read_yaml
from ddpm_pairs.degradations.base import Degradation, check_members, spec_of
from ddpm_pairs.degradations.classes import checked_arguments, class_of, is_own
from ddpm_pairs.degradations.handcrafted.bicubic import Bicubic
from ddpm_pairs.degradations.handcrafted.bsrgan import BSRGAN
from ddpm_pairs.degradations.handcrafted.chain import Chain
from ddpm_pairs.degradations.handcrafted.classical import Classical, ClassicalFaces
from ddpm_pairs.degradations.handcrafted.gaussian_noise import GaussianNoise
from ddpm_pairs.degradations.handcrafted.real_esrgan import RealESRGAN
from ddpm_pairs.errors import UserError
from ddpm_pairs.shipped import shipped_config, shipped_weights

NAMES = {
    Bicubic.name: Bicubic,
    Classical.name: Classical,
    ClassicalFaces.name: ClassicalFaces,
    BSRGAN.name: BSRGAN,
    RealESRGAN.name: RealESRGAN,
    GaussianNoise.name: GaussianNoise,
}
DEFAULT_SCALE = 4
YAML, WEIGHTS = (".yaml", ".yml"), (".safetensors", ".ckpt")
LEARNED_T = (50, 150)
"""Range of t of a DDPM given only by its weights."""

_reading: ContextVar[tuple[Path, ...]] = ContextVar("reading", default=())
"""The YAML files whose degradation is being built, each named by the one before it."""


def by_name(asked: Any, scale: int | None = None, option: str = "scale") -> Degradation:  # noqa: ANN401
    """Build a degradation.

    Args:
        asked: What the user gave, see the module.
        scale: HQ side over LQ side; ``None`` uses the degradation's own, and 4 for a name.
        option: The option that sets ``scale``, for the message.

    Raises:
        UserError: If there is no such degradation, or its scale is different.
    """
    if isinstance(asked, str | Path):
        found = _from_word(str(asked), scale)
    elif isinstance(asked, list | dict):
        found = build(asked, scale)
    else:
        found = asked
    check_members(found)
    if scale is not None and found.scale != scale:
        raise UserError(
            f"{option}: got {scale}; expected {found.scale}, the scale of degradation {found.name}; leave {option} "
            "out, or set the scale of the degradation itself"
        )
    return found


def label_of(asked: Any, degradation: Degradation) -> str:  # noqa: ANN401
    """Return a short label for tables and file names: the stem of a file, the given name, or the degradation's name.

    Args:
        asked: What the user gave.
        degradation: The degradation that ``by_name`` built from it.
    """
    if isinstance(asked, str | Path):
        if str(asked).endswith((*YAML, ".safetensors")):
            return Path(asked).stem
        if "." not in str(asked):
            return str(asked)
    inner = getattr(degradation, "degradation", None)  # of `OnHQGrid`
    name = re.sub(r"[^\w.+-]", "_", degradation.name)  # the name of a class of your own may be anything
    return name if inner is None else f"{name}-{label_of(inner, inner)}"


def build(spec: Any, scale: int | None = None) -> Any:  # noqa: ANN401 - a degradation, or an operation of a chain
    """Build a degradation or an operation from the plain values of a config, which may contain further classes.

    Args:
        spec: A name, ``class_path`` with ``init_args``, or a list of operations.
        scale: Scale of the outermost class, if it has such an argument and ``init_args`` does not set it.

    Raises:
        UserError: If a class cannot be imported, is not a degradation, or does not accept the arguments.
    """
    if isinstance(spec, str):
        return _from_word(spec, scale)
    if isinstance(spec, list):
        return Chain([build(one) for one in spec], DEFAULT_SCALE if scale is None else scale)
    if not isinstance(spec, dict) or not isinstance(spec.get("class_path"), str):
        raise UserError(f"degradation: got {_shortened(spec)}; expected class_path and init_args")
    path, arguments = spec["class_path"], spec.get("init_args") or {}
    if not isinstance(arguments, dict) or not all(isinstance(name, str) for name in arguments):
        raise UserError(f"degradation {path}: got init_args {_shortened(arguments)}; expected a mapping of arguments")
    kind = class_of(path)
    if scale is not None and "scale" not in arguments and "scale" in inspect.signature(kind).parameters:
        arguments = arguments | {"scale": scale}
    built = kind(**checked_arguments(kind, path, {name: _argument(value) for name, value in arguments.items()}))
    expected = spec.get("weights_sha256")
    if expected is not None and (found := spec_of(built).get("weights_sha256")) != expected:
        raise UserError(
            f"degradation {path}: got weights with the SHA-256 {str(found)[:12]}; expected {str(expected)[:12]}; "
            "use the file with which the description was written"
        )
    if not is_own(kind):
        with suppress(AttributeError):  # of a class with slots; ``described`` then reads its attributes
            object.__setattr__(built, "init_args", dict(arguments))  # a dataclass may be frozen
    return built


def _argument(value: Any) -> Any:  # noqa: ANN401
    """Build the classes in an argument that are given by their paths."""
    if isinstance(value, list):
        return [_argument(one) for one in value]
    return build(value) if isinstance(value, dict) and "class_path" in value else value


def _from_word(word: str, scale: int | None) -> Degradation:
    if word in NAMES:
        return _named(NAMES[word], scale)
    if word.endswith(YAML):
        return _from_yaml(word, scale)
    weights = Path(word) if os.path.exists(word) else shipped_weights(word)  # noqa: PTH110 - a name may be too long
    if weights is not None:
        return _from_weights(weights)
    if word.endswith((*WEIGHTS, ".pth")):
        raise UserError(f"degradation {_shortened(word)} does not exist; {_EXPECTED}")
    if "." in word:
        return build({"class_path": word}, scale)
    known = ", ".join(NAMES)
    got = repr(word) if re.fullmatch(r"[\w-]{1,40}", word) else "a text"  # perhaps the content of a file
    raise UserError(f"degradation: got {got}; expected one of {known}, a class path, a YAML file or a file of weights")


def _named(kind: Callable[..., Degradation], scale: int | None) -> Degradation:
    if "scale" not in inspect.signature(kind).parameters:
        return kind()
    return kind(scale=DEFAULT_SCALE if scale is None else scale)


def _from_yaml(name: str, scale: int | None) -> Degradation:
    path = Path(name) if os.path.isfile(name) else shipped_config(name)  # noqa: PTH113 - a name may be too long
    if path is None:
        raise UserError(
            f"degradation {_shortened(name)} does not exist; expected a YAML file or the name of a shipped config"
        )
    reading = _reading.get()
    if (real := path.resolve()) in reading:
        raise UserError(f"degradation {name} refers to itself; expected a description of a degradation")
    try:
        content = read_yaml(path)
    except UserError as error:
        raise UserError(f"degradation {error}") from None
    token = _reading.set((*reading, real))
    try:
        return _from_content(name, content, scale)
    finally:
        _reading.reset(token)


def _from_content(name: str, content: Any, scale: int | None) -> Degradation:  # noqa: ANN401 - plain values
    if not isinstance(content, list | dict):  # text of another file, which no message may show
        content = None
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        arguments = content["model"].get("init_args", content["model"])  # `calibrate` writes an overlay without a class
        content = arguments.get("degradation") if isinstance(arguments, dict) else None
        scale = arguments.get("scale") if content is not None and scale is None else scale
    if not content or (isinstance(content, dict) and "class_path" not in content):
        raise UserError(
            f"degradation {name} describes no degradation; expected class_path and init_args, a list of operations, or "
            "a config of pairs"
        )
    return build(content, scale)


def _from_weights(path: Path) -> Degradation:
    """Build a learned degradation from weights with a description."""
    if path.suffix not in WEIGHTS or not path.is_file():
        raise UserError(f"degradation {path} is not a file of weights; {_EXPECTED}")
    from ddpm_pairs.diffusion.loading import read_kind

    kind = read_kind(path)
    if kind == "redegnet":
        raise UserError(
            f"degradation {path} reads codes and contains none; make a bank with `ddpm-pairs bank {path} FACES OUT`"
        )
    if kind not in LEARNED:
        contains = "weights without a description" if kind is None else f"a {kind}"
        raise UserError(f"degradation {path} contains {contains}; {_EXPECTED}")
    return LEARNED[kind](path)


def _ddpm(path: Path) -> Degradation:
    from ddpm_pairs.degradations.walk import Walk  # which imports `by_name` for its start
    from ddpm_pairs.diffusion.loading import load_denoiser

    denoiser = load_denoiser(path)
    low, high = (min(t, denoiser.t_max) for t in LEARNED_T)
    return Walk(Bicubic(), denoiser, (low, high))


def _learned(path: Path) -> Degradation:
    from ddpm_pairs.degradations.learned.degradation import Learned

    return Learned(str(path))


LEARNED: dict[str, Callable[[Path], Degradation]] = {"ddpm": _ddpm, "degradation": _learned}
"""Functions that load a degradation from weights, by the kind in their description."""

_EXPECTED = (
    "expected the weights of a DDPM or of a learned degradation: a .ckpt of `lightning fit`, or a .safetensors file"
)


def _shortened(value: Any) -> str:  # noqa: ANN401
    text = str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
