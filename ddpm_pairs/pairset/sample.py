"""A pair on its way into a packed file."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sample:
    """A pair as it is packed.

    Attributes:
        name: The escaped key.
        record: The manifest line.
        hq: The HQ's PNG file.
        lq: The LQ's PNG file.
    """

    name: str
    record: dict[str, Any]
    hq: bytes
    lq: bytes
