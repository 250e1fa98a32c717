"""Decode image files to 8-bit RGB arrays."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError
from PIL.ExifTags import Base as ExifTag
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION, PLANAR_CONFIGURATION

from ddpm_pairs.errors import UserError

# An explicit list, because some of Pillow's other readers start external programs (EPS).
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")

# Scans and stitched photographs exceed Pillow's default limit of 89 million pixels. Pillow warns above its limit and
# refuses only above twice the limit, so this module checks the number itself.
Image.MAX_IMAGE_PIXELS = MOST_PIXELS = 500_000_000
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
# Pillow's names for color layouts with 16 bits per sample.
_DEEP_COLORS = ("RGB;16", "RGBA;16", "LA;16")
_PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


class UnreadablePicture(UserError):  # noqa: N818 (named after its subject, like FileNotFound)
    """A file is not an image, is damaged, or has samples without a defined white; the message says which."""


def read_size(path: Path) -> tuple[int, int]:
    """Read the size of an image from the file's header only; ``decode_picture`` returns an array of this size.

    Args:
        path: The image file.

    Returns:
        (height, width) in pixels, after EXIF orientation.

    Raises:
        UnreadablePicture: If the header cannot be read.
    """
    with _one_line_reasons(), Path(path).open("rb") as file, _open(file) as image:
        width, height = image.size
        return (width, height) if 5 <= _orientation(image) <= 8 else (height, width)


def decode_picture(source: Path | bytes) -> np.ndarray:
    """Decode an image, or the first frame of an animation or stack, to 8-bit sRGB.

    EXIF orientation is applied. Gray, palette, and CMYK images are converted to RGB, images with an embedded ICC
    profile are converted to sRGB, transparent images are composited on white, and 16-bit samples are rounded
    (v * 255 / 65535), not truncated. An unusable profile is ignored. Unusable profiles and transparency cause one
    warning each per process.

    Args:
        source: An image file, or its bytes.

    Returns:
        uint8 ``(H, W, 3)``, RGB.

    Raises:
        UnreadablePicture: If the file cannot be read, is truncated, contains float or 32-bit samples, or declares more
            than 500 million pixels.
    """
    with _one_line_reasons():
        rgb, alpha, _ = _decode(source)
    return rgb if alpha is None else _on_white(rgb, alpha)


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


def _decode(source: Path | bytes) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """Return colors ``(H, W, 3)`` and alpha ``(H, W)`` or ``None``, both uint8, and whether samples have 16 bits."""
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    with _open(io.BytesIO(data)) as image:
        _refuse_undefined(image)
        orientation, profile, raw = _orientation(image), image.info.get("icc_profile"), _raw_mode(image)
        deep = image.mode.startswith("I") or raw.startswith(_DEEP_COLORS)
        image.load()
        eight = _eight_bit(image, raw, data)
    if orientation in _TURNS:
        eight = eight.transpose(_TURNS[orientation])
    colors, alpha = _split_alpha(eight)
    return np.array(_to_srgb(colors, profile)), alpha, deep


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
        raise UnreadablePicture("not a readable PNG, JPEG, WebP, BMP, or TIFF image") from None
    except Exception as error:  # decoders raise many types of errors on damaged files
        text = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise UnreadablePicture(f"cannot be decoded: {text}") from error


def _open(file: BinaryIO) -> Image.Image:
    if not file.read(1):
        raise UnreadablePicture("the file is empty")
    file.seek(0)
    image = Image.open(file, formats=_FORMATS)
    if image.width * image.height > MOST_PIXELS:
        raise UnreadablePicture(_TOO_MANY)
    return image


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation that must still be applied, 1 to 8.

    TIFF readers apply it themselves. In a PNG, only EXIF data before the pixels is used, so that the header is enough
    to know the size: ``PngImageFile.getexif`` would decode the whole image to look for EXIF data after them.
    """
    if image.format == "TIFF":
        return 1
    try:
        return int(Image.Image.getexif(image).get(ExifTag.Orientation, 1))
    except Exception:  # an image with damaged metadata is still usable
        return 1


def _raw_mode(image: Image.Image) -> str:
    """Return Pillow's name for the sample layout of the file, such as ``RGB;16B``; empty if the format has none."""
    arguments = image.tile[0].args if image.tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _refuse_undefined(image: Image.Image) -> None:
    """Refuse samples without a defined white, and layouts that would be decoded incorrectly."""
    advice = "save it with 8 or 16 bits per sample"
    if image.mode == "F":
        raise UnreadablePicture(f"float samples have no defined white; {advice}")
    if image.mode == "I" and image.format != "PNG":
        raise UnreadablePicture(f"signed or 32-bit samples have no defined white; {advice}")
    if image.mode.startswith("I;16") and _raw_mode(image) == "I;12":
        raise UnreadablePicture(f"12-bit samples are not supported; {advice}")
    if image.format == "TIFF" and 16 in image.tag_v2.get(258, ()):
        if image.tag_v2.get(PLANAR_CONFIGURATION) == 2:
            raise UnreadablePicture("16-bit TIFF with separate planes is not supported; save it interleaved")
        if image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0:
            raise UnreadablePicture("16-bit TIFF with white at zero is not supported; save it with black at zero")


def _eight_bit(image: Image.Image, raw: str, data: bytes) -> Image.Image:
    """Return a loaded image with 8-bit samples; 16-bit samples are rounded."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray(_round_to_eight(np.asarray(image)))
    if not raw.startswith(_DEEP_COLORS):
        return image.copy()
    # Pillow keeps only the high byte if there are several channels. OpenCV keeps all bits, and applies the
    # orientation of a TIFF like Pillow.
    deep = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if deep is None or deep.dtype != np.uint16 or deep.ndim != 3:
        raise UnreadablePicture("16-bit samples cannot be decoded; save it with 8 bits per sample")
    order = [2, 1, 0, 3][: deep.shape[2]]
    return Image.fromarray(_round_to_eight(deep[..., order]))


def _round_to_eight(values: np.ndarray) -> np.ndarray:
    """Compute round(v * 255 / 65535), which is round(v / 257), for v in [0, 65535]."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _split_alpha(image: Image.Image) -> tuple[Image.Image, np.ndarray | None]:
    """Return colors in mode L, RGB, or CMYK, and alpha as uint8 ``(H, W)`` or, if fully opaque, ``None``."""
    alpha = None
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        alpha = np.asarray(rgba.getchannel("A"))
        image = image.getchannel("L") if image.mode == "LA" else rgba.convert("RGB")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode not in ("L", "CMYK"):
        image = image.convert("RGB")
    return image, None if alpha is None or alpha.min() == 255 else alpha


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert to sRGB with the embedded profile; without one, gray and RGB values are taken as sRGB."""
    if profile:
        try:
            embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            mode = _PROFILE_MODES[embedded.profile.xcolor_space.strip()]
            if image.mode == "L" and mode == "RGB":
                image = image.convert("RGB")
            # No optimization for gray: the lookup tables of lcms for one channel are too coarse in the shadows.
            flags = ImageCms.Flags.NOOPTIMIZE if image.mode == "L" else ImageCms.Flags.NONE
            return ImageCms.profileToProfile(image, embedded, _srgb(), outputMode="RGB", flags=flags)
        except (ImageCms.PyCMSError, OSError, ValueError, KeyError):
            _warn_once("an embedded color profile cannot be used and is ignored; its colors are taken as sRGB")
    return image.convert("RGB")


def _on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Compute round((a * c + (255 - a) * 255) / 255) for uint8 colors c ``(H, W, 3)`` and alpha a ``(H, W)``."""
    _warn_once("images with transparency are composited on white")
    a = alpha[..., None].astype(np.uint16)
    return ((a * rgb + (255 - a) * 255 + 127) // 255).astype(np.uint8)


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@cache
def _warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=4)
