"""Mend image files whose pixels are whole although a decoder refuses the file."""

import io
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
MOST_STRAY_BYTES = 1024
MOST_TEXT, MOST_TEXTS = 2**16, 2**24
MOST_PROFILE = 2**25
"""Sizes up to which a text chunk, all of them together, and a profile are kept, unpacked, in bytes."""

_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_COLORS = (b"iCCP", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"tRNS", b"sBIT")
_END = b"\xff\xd9"
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A marker that ends the data of a scan."""

_OTHER_SCAN_DATA = (b"\xaa" * 2000, b"\x5b" * 2000)
"""Bytes without a marker with which a scan may continue in a damaged way."""


@dataclass(frozen=True)
class Mended:
    """A file that a decoder accepts, with the same pixels.

    Attributes:
        data: The file.
        profile: A color profile that the decoder would refuse for its size; ``None`` if there is none.
        warning: What a user should know, in words that follow the name of the file; ``None`` if nothing is lost.
    """

    data: bytes
    profile: bytes | None = None
    warning: str | None = None


def mend(data: bytes) -> Mended | None:
    """Mend a PNG or JPEG file.

    Stray bytes before the file are removed. From a PNG, text that unpacks to much and chunks besides the pixels with a
    wrong checksum are removed; a profile is returned separately. A JPEG that is complete but for its end marker gets
    one.

    Args:
        data: The bytes of a file that cannot be decoded.

    Returns:
        The mended file; ``None`` if nothing of this is the reason, or pixels are missing.
    """
    starts = [start for magic in (PNG, JPEG) if (start := data.find(magic, 0, MOST_STRAY_BYTES)) >= 0]
    if not starts:
        return None
    start = min(starts)
    whole = data[start:]
    found = _png(whole) if whole.startswith(PNG) else _jpeg(whole)
    if found is None and start:
        found = Mended(whole)
    if found is not None and start and found.warning is None:
        return Mended(found.data, found.profile, f"has {start} stray bytes before the image, which are ignored")
    return found


def chunks_of(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Yield type, content, and whether the checksum is right, of each chunk of a PNG up to an incomplete one."""
    position = len(PNG)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            return
        content = data[position + 8 : end]
        yield kind, content, zlib.crc32(kind + content) == struct.unpack_from(">I", data, end)[0]
        position = end + 4


def _png(data: bytes) -> Mended | None:
    kept, texts, profile, lost, seen = [PNG], 0, None, [], 0
    for kind, content, intact in chunks_of(data):
        seen += 12 + len(content)
        ancillary = bool(kind[:1].islower())
        if ancillary and not intact:
            lost += [kind.decode("latin-1")] if kind in _COLORS else []
            continue
        if kind in _TEXTS:
            size = _unpacked_size(kind, content)
            if size > MOST_TEXT or texts + size > MOST_TEXTS:
                continue
            texts += size
        if kind == b"iCCP" and profile is None:
            profile = _unpacked(content.partition(b"\0")[2][1:], MOST_PROFILE)
            lost += [] if profile else ["iCCP"]
            continue
        kept.append(data[len(PNG) + seen - 12 - len(content) : len(PNG) + seen])
    kept.append(data[len(PNG) + seen :])  # a cut chunk stays, so that the decoder refuses it
    mended = b"".join(kept)
    if mended == data:
        return None
    warning = f"has an unusable chunk {' and '.join(lost)}; its colors are taken as sRGB" if lost else None
    return Mended(mended, profile, warning)


def _unpacked_size(kind: bytes, content: bytes) -> int:
    """Return the size of a text after unpacking, or anything above ``MOST_TEXT``."""
    _, _, rest = content.partition(b"\0")
    if kind == b"zTXt":
        rest = rest[1:]
    elif kind == b"iTXt" and rest[:1] == b"\1":
        rest = rest[2:].split(b"\0", 2)[-1]
    else:
        return len(content)
    text = _unpacked(rest, MOST_TEXT)
    return MOST_TEXT + 1 if text is None else len(text)


def _unpacked(packed: bytes, limit: int) -> bytes | None:
    """Unpack zlib data; ``None`` if it is damaged or larger than the limit."""
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(packed, limit)
    except zlib.error:
        return None
    return content if unpacker.eof and content else None


def _jpeg(data: bytes) -> Mended | None:
    """Add the end marker if all pixels are there: then what follows the scan does not change them."""
    data = data.rstrip(b"\xff")
    if data.endswith(_END) or not _has_all_scans(data):
        return None
    ended = _pixels(data + _END)
    continued = [_pixels(data + more + _END) for more in _OTHER_SCAN_DATA]
    if ended is None or not all(other is not None and np.array_equal(ended, other) for other in continued):
        return None
    return Mended(data + _END, warning="lacks the end marker of a JPEG, but no pixels")


def _pixels(data: bytes) -> np.ndarray | None:
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return np.asarray(image)
    except Exception:  # the file is damaged in other ways
        return None


def _has_all_scans(data: bytes) -> bool:
    """Return whether a progressive JPEG has a scan for the last bit of every coefficient; others have one per color."""
    position, progressive, components, complete = 2, False, [], set()
    while position + 4 <= len(data):
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        segment = data[position + 4 : position + 2 + length]
        if data[position] != 0xFF:
            return False
        if marker in (0xC0, 0xC1, 0xC2) and len(segment) > 5:
            progressive, components = marker == 0xC2, list(segment[6::3])
        position += 2 + length
        if marker == 0xDA and segment:
            count = segment[0]
            first, last, bits = segment[1 + 2 * count : 4 + 2 * count].ljust(3, b"\0")
            if not progressive or bits & 15 == 0:
                numbers = range(first, last + 1) if progressive else range(64)
                complete |= {(component, number) for component in segment[1 : 1 + 2 * count : 2] for number in numbers}
            while position + 1 < len(data) and (
                data[position] != 0xFF or data[position + 1] in (0, *range(0xD0, 0xD8))
            ):
                position = data.find(b"\xff", position + 1)
                if position < 0:
                    position = len(data)
    return bool(components) and complete >= {(one, number) for one in components for number in range(64)}
