"""Decode image files to 8-bit RGB arrays."""

import io
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base as ExifTag

from ddpm_pairs.images.extra_formats import format_of, is_extra
from ddpm_pairs.images.mend import PNG, mend
from ddpm_pairs.images.samples import UnreadablePicture, on_white, to_srgb, warn_once

# An explicit list, because some of Pillow's other readers start external programs (EPS).
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")

# Scans and stitched photographs exceed Pillow's default limit of 89 million pixels. Pillow warns above its limit and
# refuses only above twice the limit, so this module checks the number itself.
Image.MAX_IMAGE_PIXELS = MOST_PIXELS = 500_000_000
MOST_BYTES = 2**32
_TOO_MANY = f"more than {MOST_PIXELS // 10**6} million pixels, possibly a decompression bomb; split it into parts"

# The operation that undoes each EXIF orientation (CIPA DC-008, tag 0x0112).
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# The most common formats, and the first bytes of their files.
_COMMON = {"PNG": b"\x89PNG", "JPEG": b"\xff\xd8\xff", "WEBP": b"RIFF"}
# What Pillow's ``info`` has if colors must be converted or there is transparency.
_UNUSUAL = {"icc_profile", "gamma", "chromaticity", "transparency"}
# PNG chunks about colors that Pillow does not read.
_DECLARATIONS = (b"cICP", b"mDCV", b"mDCv", b"cLLI", b"cLLi")

_EIGHT_BIT_RGB = bytes((8, 2, 0, 0, 0))  # bits, color type, compression, filter, interlacing (PNG 1.2, 11.2.2)
# Chunks, besides the required ones, that do not change the meaning of the pixels.
_HARMLESS = {b"tEXt", b"zTXt", b"iTXt", b"tIME", b"pHYs", b"sRGB"}
# Overridden by an sRGB chunk (11.3.3.5); without one, some readers change the colors by them.
_SUPERSEDED = {b"gAMA", b"cHRM"}
# Text that programs read as EXIF or XMP, which may contain an orientation.
_TURNING = (b"Raw profile type", b"XML:com.adobe.xmp")


def read_size(path: Path) -> tuple[int, int]:
    """Read the size of an image from the file's header only; ``decode_picture`` returns an array of this size.

    Args:
        path: The image file.

    Returns:
        (height, width) in pixels, after EXIF orientation.

    Raises:
        UnreadablePicture: If the header cannot be read.
    """
    with _one_line_reasons():
        try:
            with Path(path).open("rb") as file:
                return _size(file)
        except UnreadablePicture:
            raise
        except Exception:  # Pillow raises many types of errors on damaged files
            mended = mend(_read(path))
            if mended is None:
                raise
            return _size(io.BytesIO(mended.data))


def _size(file: BinaryIO) -> tuple[int, int]:
    with _open(file) as image:
        width, height = image.size
        return (width, height) if 5 <= _orientation(image) <= 8 else (height, width)


def decode_picture(source: Path | bytes) -> np.ndarray:
    """Decode an image, or the first frame of an animation or stack, to 8-bit sRGB.

    EXIF orientation is applied. Gray, palette, and CMYK images are converted to RGB, images with an embedded ICC
    profile are converted to sRGB, transparent images are composited on white, and 16-bit samples are rounded
    (v * 255 / 65535), not truncated. A gamma (gAMA, linear cICP) is converted; an unusable profile and other primaries
    are ignored. Files whose pixels are whole are mended, see ``mend``. What is ignored or mended, and transparency,
    cause one warning of each kind per process.

    Args:
        source: An image file, or its bytes.

    Returns:
        uint8 ``(H, W, 3)``, RGB.

    Raises:
        UnreadablePicture: If the file cannot be read, is truncated, contains float, 32-bit, or HDR samples, declares
            more than 500 million pixels, or needs a plugin of Pillow that is not installed.
    """
    with _one_line_reasons():
        rgb, alpha, _ = _decode(source)
        return rgb if alpha is None else on_white(rgb, alpha)


def decode_with_alpha(source: Path | bytes) -> tuple[np.ndarray, np.ndarray | None]:
    """Decode an image to 8-bit sRGB like ``decode_picture``, but keep its transparency and refuse 16-bit samples.

    Args:
        source: An image file, or its bytes.

    Returns:
        RGB as uint8 ``(H, W, 3)``, and alpha as uint8 ``(H, W)``, or ``None`` if the image is fully opaque.

    Raises:
        UnreadablePicture: As for ``decode_picture``, and if the file has 16-bit samples, because they would be rounded.
    """
    with _one_line_reasons():
        rgb, alpha, deep = _decode(source)
        if deep:
            raise UnreadablePicture("16-bit samples would be rounded to 8 bits; save it with 8 bits per sample")
    return rgb, alpha


def is_plain_png(data: bytes) -> bool:
    """Check whether a file is a complete PNG with nothing but an 8-bit RGB image in sRGB.

    A profile, another gamma, transparency, EXIF, XMP, interlacing, further frames, unknown chunks, a wrong checksum, or
    bytes after the end disqualify a file. The compressed data is not checked.

    Args:
        data: The bytes of the file.
    """
    kinds, position = [], len(PNG)
    while data.startswith(PNG) and position < len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8].ljust(8, b"\0"))
        content, end = data[position + 8 : position + 8 + length], position + 12 + length
        if data[end - 4 : end] != struct.pack(">I", zlib.crc32(kind + content)):
            return False
        if kind in (b"tEXt", b"zTXt", b"iTXt") and content.startswith(_TURNING):
            return False
        if not kinds and (kind != b"IHDR" or content[8:] != _EIGHT_BIT_RGB):
            return False
        kinds.append(kind)
        position = end
    allowed = _HARMLESS | (_SUPERSEDED if b"sRGB" in kinds else set())
    return kinds[-1:] == [b"IEND"] and set(kinds[1:-1]) - allowed == {b"IDAT"}


def _decode(source: Path | bytes) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """Return colors ``(H, W, 3)`` and alpha ``(H, W)`` or ``None``, both uint8, and whether samples have 16 bits."""
    data = source if isinstance(source, bytes) else _read(source)
    name = "an image" if isinstance(source, bytes) else str(source)
    try:
        return _decode_whole(data, name, None)
    except UnreadablePicture:
        raise
    except Exception:  # Pillow raises many types of errors on damaged files
        mended = mend(data)
        if mended is None:
            raise
    decoded = _decode_whole(mended.data, name, mended.profile)
    if mended.warning is not None:
        warn_once(re.sub(r"\d+", "some", mended.warning), f"{name} {mended.warning}")
    return decoded


def _read(path: Path) -> bytes:
    path = Path(path)
    if path.exists() and not path.is_file():
        raise UnreadablePicture("not a regular file")
    if path.stat().st_size > MOST_BYTES:
        raise UnreadablePicture(f"the file is larger than {MOST_BYTES >> 30} GiB")
    return path.read_bytes()


def _decode_whole(data: bytes, name: str, profile: bytes | None) -> tuple[np.ndarray, np.ndarray | None, bool]:
    with _open(io.BytesIO(data)) as image:
        turn = _TURNS.get(_orientation(image))
        if image.mode == "RGB" and image.format in _COMMON and profile is None and not _UNUSUAL & image.info.keys():
            raw = image.tile[0].args if image.tile else ""
            head = data[: data.find(b"IDAT")] if image.format == "PNG" else b""
            if (raw if isinstance(raw, str) else raw[0]) == "RGB" and not any(name in head for name in _DECLARATIONS):
                image.load()
                return np.array(image if turn is None else image.transpose(turn)), None, False
        return to_srgb(image, data, name, profile, turn)


@contextmanager
def _one_line_reasons() -> Iterator[None]:
    """Turn any error inside the block into an ``UnreadablePicture`` with a one-line message."""
    try:
        yield
    except UnreadablePicture:
        raise
    except Image.DecompressionBombError:
        raise UnreadablePicture(_TOO_MANY) from None
    except UnidentifiedImageError:
        raise UnreadablePicture("not a readable PNG, JPEG, WebP, BMP, TIFF, AVIF, HEIC, or JPEG XL image") from None
    except Exception as error:  # decoders raise many types of errors on damaged files
        text = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise UnreadablePicture(f"cannot be decoded: {text}") from error


def _open(file: BinaryIO) -> Image.Image:
    if not file.read(1):
        raise UnreadablePicture("the file is empty")
    file.seek(0)
    head = file.read(32)
    file.seek(0)
    image = Image.open(file, formats=_FORMATS if head.startswith(tuple(_COMMON.values())) else _formats(head))
    if image.width * image.height > MOST_PIXELS:
        raise UnreadablePicture(_TOO_MANY)
    return image


def _formats(head: bytes) -> tuple[str, ...]:
    """Return the formats that a file with these first bytes may have."""
    if not is_extra(head):
        return _FORMATS
    try:
        return (format_of(head),)
    except ImportError as error:
        raise UnreadablePicture(str(error)) from None


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation that must still be applied, 1 to 8.

    Readers of TIFF and JPEG XL apply it themselves. In a PNG, only EXIF data before the pixels is used, so that the
    header is enough to know the size: ``PngImageFile.getexif`` would decode the whole image to look for EXIF data after
    them.
    """
    if image.format in ("TIFF", "JXL"):
        return 1
    try:
        return int(Image.Image.getexif(image).get(ExifTag.Orientation, 1))
    except Exception:  # an image with damaged metadata is still usable
        return 1
