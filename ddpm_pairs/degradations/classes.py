"""Find the class of a degradation or an operation by its path, and check its arguments."""

import importlib
import inspect
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ddpm_pairs.errors import UserError
from ddpm_pairs.trust import OWN, check_trusted, naming_file

LONGEST_PATH = 500
_ANY_CLASS = ConfigDict(arbitrary_types_allowed=True)


def class_of(path: str) -> type:
    """Import the class of a degradation or an operation.

    Args:
        path: ``package.module.Class``.

    Raises:
        UserError: If it cannot be imported, or is not a class with the methods ``draw`` and ``apply``; inside
            ``classes_named_by``, also if it is neither part of this package nor trusted.
    """
    module, _, name = path.rpartition(".")
    advice = "expected package.module.Class of an installed package"
    if not module or len(path) > LONGEST_PATH or not all(part.isidentifier() for part in path.split(".")):
        raise UserError(f"degradation: got {path[:80]!r}; {advice}")
    file = naming_file()
    if file is not None and module.split(".")[0] != OWN:
        check_trusted(path, file)
    try:
        kind = getattr(importlib.import_module(module), name, None)
    except ImportError as error:  # any other error is a bug in the module, and keeps its traceback
        raise UserError(f"degradation {path} cannot be imported ({error}); {advice}") from None
    if kind is None:
        raise UserError(f"degradation {path} cannot be imported (module {module} has no {name}); {advice}")
    is_class = isinstance(kind, type) and hasattr(kind, "draw") and hasattr(kind, "apply")
    if not is_class or getattr(kind, "_is_protocol", False):
        raise UserError(f"{path} is not a degradation; expected a class with the methods draw and apply")
    if file is not None and not is_own(kind):
        check_trusted(path, file)
    return kind


def is_own(kind: type) -> bool:
    """Return whether a class is part of this package."""
    return kind.__module__.split(".")[0] == OWN


def checked_arguments(kind: type, path: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Check the names of arguments and, for a class of this package, their types.

    Args:
        kind: The class.
        path: Its path, for messages.
        arguments: Arguments from a config, in which nested classes are already built.

    Returns:
        The arguments; for a class of this package, converted to the types of its annotations.

    Raises:
        UserError: If an argument is unknown, missing, or of a wrong type.
    """
    try:
        inspect.signature(kind).bind(**arguments)
    except TypeError as error:
        raise UserError(f"degradation {path} cannot be built ({error}); set its arguments in a config") from None
    if not is_own(kind):
        return arguments
    hints = get_type_hints(kind.__init__)
    converted = {}
    for name, value in arguments.items():
        try:
            converted[name] = TypeAdapter(hints[name], config=_ANY_CLASS).validate_python(value)
        except ValidationError as error:
            reason = error.errors(include_url=False)[0]["msg"]
            text = str(value)
            shown = text if len(text) <= 80 else f"{text[:79]}…"
            raise UserError(f"{kind.__name__}.{name}: got {shown!r} ({reason}); set it in the config") from None
    return converted
