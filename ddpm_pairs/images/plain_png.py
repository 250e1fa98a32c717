"""Detect PNG files that can be copied as they are, because decoding and encoding them would change no pixel."""

import struct
import zlib
from collections.abc import Iterator

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EIGHT_BIT_RGB = bytes((8, 2, 0, 0, 0))  # bits, color type, compression, filter, interlacing (PNG 1.2, 11.2.2)
# Chunks, besides the required ones, that do not change the meaning of the pixels.
_HARMLESS = {b"tEXt", b"zTXt", b"iTXt", b"tIME", b"pHYs", b"sRGB"}
# Overridden by an sRGB chunk (11.3.3.5); without one, some readers change the colors by them.
_SUPERSEDED = {b"gAMA", b"cHRM"}
# Text that programs read as EXIF or XMP, which may contain an orientation.
_TURNING = (b"Raw profile type", b"XML:com.adobe.xmp")


def is_plain_png(data: bytes) -> bool:
    """Check whether a file is a complete PNG with nothing but an 8-bit RGB image in sRGB.

    A profile, another gamma, transparency, EXIF, XMP, interlacing, further frames, unknown chunks, a wrong checksum, or
    bytes after the end disqualify a file. The compressed data is not checked.

    Args:
        data: The bytes of the file.
    """
    kinds = []
    for kind, content in _chunks(data):
        if kind in (b"tEXt", b"zTXt", b"iTXt") and content.startswith(_TURNING):
            return False
        if not kinds and (kind != b"IHDR" or content[8:] != _EIGHT_BIT_RGB):
            return False
        kinds.append(kind)
    allowed = _HARMLESS | (_SUPERSEDED if b"sRGB" in kinds else set())
    return kinds[-1:] == [b"IEND"] and set(kinds[1:-1]) - allowed == {b"IDAT"}


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the type and content of each chunk; a damaged file ends with a chunk whose type is empty."""
    position = len(_SIGNATURE)
    if data[:position] != _SIGNATURE:
        yield b"", b""
        return
    while position < len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8].ljust(8, b"\0"))
        content = data[position + 8 : position + 8 + length]
        if data[position + 8 + length : position + 12 + length] != struct.pack(">I", zlib.crc32(kind + content)):
            yield b"", b""
            return
        yield kind, content
        position += 12 + length
