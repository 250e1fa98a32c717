"""Read YAML files of unknown origin in bounded time and memory."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from ddpm_pairs.errors import UserError

MOST_BYTES = 2**22
MOST_DEPTH = 64
MOST_VALUES = 100_000
"""Limits of a file; ``MOST_VALUES`` counts a value once for each alias that repeats it."""


def read_yaml(path: Path) -> Any:  # noqa: ANN401 - plain values of any kind
    """Read a YAML file; see ``parse_yaml``.

    Args:
        path: The file.

    Returns:
        Its content as plain values; ``None`` for an empty file.

    Raises:
        UserError: If the file cannot be read, or for the reasons of ``parse_yaml``. The message starts with the path.
    """
    try:
        if not path.is_file():
            raise UserError(f"{path} is not a file")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        return parse_yaml(data)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    except _RefusalError as error:
        raise UserError(f"{path} {error}") from None


def parse_yaml(data: bytes) -> Any:  # noqa: ANN401 - plain values of any kind
    """Parse YAML 1.1 as ``yaml.safe_load`` does, but refuse what is ambiguous or unbounded.

    Refused are more than ``MOST_BYTES`` bytes, nesting deeper than ``MOST_DEPTH``, aliases that refer to a value that
    contains them, more than ``MOST_VALUES`` values after aliases are followed, and keys that occur twice in a mapping.

    Args:
        data: The bytes of a file, UTF-8 or UTF-16 with a byte-order mark.

    Returns:
        Plain values; ``None`` for an empty file.

    Raises:
        UserError: If the data is refused or is not YAML; the message says what the file is or contains.
    """
    if len(data) > MOST_BYTES:
        raise _RefusalError(f"is larger than {MOST_BYTES // 2**20} MiB; expected a YAML file of this program")
    try:
        _check_depth(data)
        node = yaml.compose(data, yaml.CSafeLoader)
        if node is None:
            return None
        _count(node, {}, set())
        loader = yaml.CSafeLoader(b"")
        try:
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        if isinstance(error, _RefusalError):
            raise
        raise _RefusalError(f"is not a YAML file ({' '.join(str(error).split())})") from None


class _RefusalError(UserError):
    """A reason without the name of the file."""


def _check_depth(data: bytes) -> None:
    """Parsing events needs no recursion, unlike composing them."""
    depth = 0
    for event in yaml.parse(data, yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MOST_DEPTH:
            raise _RefusalError(f"is nested deeper than {MOST_DEPTH} levels, at line {event.start_mark.line + 1}")


def _count(node: yaml.Node, counted: dict[int, int], open_nodes: set[int]) -> int:
    """Count the values of a node with aliases followed; each node is visited once."""
    name = id(node)
    line = node.start_mark.line + 1
    if name in open_nodes:
        raise _RefusalError(f"contains an alias to a value that contains it, at line {line}")
    if name not in counted:
        open_nodes.add(name)
        children = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
            children = [child for pair in children for child in pair]
        counted[name] = 1 + sum(_count(child, counted, open_nodes) for child in children)
        open_nodes.remove(name)
    if counted[name] > MOST_VALUES:
        raise _RefusalError(f"contains more than {MOST_VALUES} values, at line {line}")
    return counted[name]


def _check_keys(node: yaml.MappingNode) -> None:
    seen: set[Hashable] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
            if (key.tag, key.value) in seen:
                raise _RefusalError(f"contains the key {key.value!r} twice, at line {key.start_mark.line + 1}")
            seen.add((key.tag, key.value))
