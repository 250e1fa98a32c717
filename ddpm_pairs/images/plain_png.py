"""Whether a file is a PNG that can stand as it is where decoding and encoding it again would change no pixel."""

import struct
import zlib
from collections.abc import Iterator

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EIGHT_BIT_RGB = bytes((8, 2, 0, 0, 0))  # bits, colour type, compression, filters, interlacing (PNG 1.2, 11.2.2)
# What says nothing of how the pixels are meant, beside what every file has.
_HARMLESS = {b"tEXt", b"zTXt", b"iTXt", b"tIME", b"pHYs", b"sRGB"}
# Where sRGB stands as well, that counts (11.3.3.5); alone, some readers would change the colours by them.
_SUPERSEDED = {b"gAMA", b"cHRM"}
# Text that programs take for EXIF or XMP, either of which may turn the picture.
_TURNING = (b"Raw profile type", b"XML:com.adobe.xmp")


def is_plain_png(data: bytes) -> bool:
    """Whether a file holds nothing but an 8-bit RGB picture, meant as sRGB, in a PNG that is whole.

    A profile, another gamma, transparency, EXIF, XMP, interlacing, further frames, unknown chunks, a wrong checksum or
    bytes after the end make it another one. What is compressed inside is not looked at.

    Args:
        data: The file's bytes.
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
    """Kind and content of each chunk; of a file that is not whole, a last one of no kind."""
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
