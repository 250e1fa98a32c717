"""Data classes: a pair in memory, a pair on disk, and the pairs found in a source; names and sizes of packed pairs."""

import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from ddpm_pairs.images.find import Failure, Picture
from ddpm_pairs.pairset.records import Record

_HIDDEN = re.compile("(?<![^/])__")
"""``__`` at the beginning of a part of a name."""


@dataclass(frozen=True)
class Sample:
    """A pair in memory that is being packed.

    Attributes:
        name: Quoted key.
        record: Manifest record.
        hq: PNG file of the HQ image.
        lq: PNG file of the LQ image.
    """

    name: str
    record: Record
    hq: bytes
    lq: bytes


@dataclass(frozen=True)
class PicturePair:
    """A pair on disk.

    Attributes:
        key: Unique key of the pair.
        hq: HQ file.
        lq: LQ file.
        content: Identifies the image content: the key within its source without the ``~<n>`` of variants. It decides
            whether the pair is used for training or validation.
        psnr: PSNR of the bicubically upscaled LQ against HQ in dB, infinity if they are equal; ``None`` if it is not
            recorded.
    """

    key: str
    hq: Picture
    lq: Picture
    content: str
    psnr: float | None = None


@dataclass
class FoundPairs:
    """The pairs of one source.

    Attributes:
        place: Folder or file, as the user gave it.
        option: Command-line option that names it.
        pairs: The pairs, sorted by key.
        failures: Files and lines that could not be used.
        rejected: Number of pairs skipped because they are marked ``accepted: false``.
    """

    place: str
    option: str
    pairs: list[PicturePair] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    rejected: int = 0


def quote_key(key: str) -> str:
    """Quote a key for packed copies: ASCII without dots, because both formats start the suffix at the first dot.

    ``/`` and ``~`` are not changed. ``__`` at the beginning of a part is quoted, because readers of tar files skip such
    members: ``datasets`` those whose name begins so, ``webdataset`` those in a folder ``__<name>__``.
    """
    return _HIDDEN.sub("%5F_", quote(key, safe="/~").replace(".", "%2E"))


def unquote_key(name: str) -> str:
    """Invert ``quote_key``."""
    return unquote(name)


def recorded_size(record: Record, kind: str) -> tuple[int, int] | None:
    """Return the (height, width) of one side of a pair, or ``None`` if the record has no size."""
    width, height = record.get(f"{kind}_size", (None, None))
    return None if width is None else (height, width)
