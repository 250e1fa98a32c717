"""Picture files to 8-bit RGB arrays."""

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

# Named, because Pillow would also hand a file to readers that start other programs (EPS).
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")

# Scans and stitched photographs pass Pillow's own limit of 89 million pixels; it refuses only at twice this number.
Image.MAX_IMAGE_PIXELS = MOST_PIXELS = 500_000_000
_TOO_MANY = f"it has more than {MOST_PIXELS // 10**6} million pixels, as a decompression bomb has; cut it into parts"

# What undoes each EXIF orientation (CIPA DC-008, tag 0x0112).
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow's names for the layouts of colours with 16 bits a sample.
_DEEP_COLOURS = ("RGB;16", "RGBA;16", "LA;16")
_PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


class UnreadablePicture(UserError):  # noqa: N818 (what it is about, like FileNotFound)
    """A file that is no picture, or a broken one, or one whose values have no defined white; the text says which."""


def read_size(path: Path) -> tuple[int, int]:
    """Size of a picture as `decode_picture` would return it, from the file's header alone.

    Returns:
        (height, width) after EXIF orientation, in pixels.

    Raises:
        UnreadablePicture: the header cannot be read.
    """
    with _one_line_reasons(), Path(path).open("rb") as file, _open(file) as image:
        width, height = image.size
        return (width, height) if 5 <= _orientation(image) <= 8 else (height, width)


def decode_picture(source: Path | bytes) -> np.ndarray:
    """Decode a picture to 8-bit sRGB, of an animation or a stack the first frame.

    EXIF orientation is applied. Gray and palette pictures become RGB, CMYK is converted, an embedded ICC profile is
    converted to sRGB, transparency is laid on white, and 16-bit samples are rounded (v * 255 / 65535), not truncated.
    A profile that cannot be used is ignored. That and transparency are warned of, once a process.

    Args:
        source: a file, or its bytes.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        UnreadablePicture: the file cannot be read, is truncated, holds float or 32-bit samples, or claims more than
            500 million pixels.
    """
    with _one_line_reasons():
        rgb, alpha, _ = _decode(source)
    return rgb if alpha is None else _on_white(rgb, alpha)


def decode_with_alpha(source: Path | bytes) -> tuple[np.ndarray, np.ndarray | None]:
    """Decode a picture to 8-bit sRGB as `decode_picture` does, but keep its transparency and refuse 16-bit samples.

    Args:
        source: a file, or its bytes.

    Returns:
        uint8 (H, W, 3), RGB, and alpha, uint8 (H, W), or None where the picture is opaque throughout.

    Raises:
        UnreadablePicture: as for `decode_picture`, and for 16-bit samples, which would be rounded.
    """
    with _one_line_reasons():
        rgb, alpha, deep = _decode(source)
        if deep:
            raise UnreadablePicture("16 bits a sample would become 8; save it with 8 bits a sample")
    return rgb, alpha


def _decode(source: Path | bytes) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """Colours (H, W, 3), alpha (H, W) or None, both uint8, and whether the file has 16 bits a sample."""
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    with _open(io.BytesIO(data)) as image:
        _refuse_undefined(image)
        orientation, profile, raw = _orientation(image), image.info.get("icc_profile"), _raw_mode(image)
        deep = image.mode.startswith("I") or raw.startswith(_DEEP_COLOURS)
        image.load()
        eight = _eight_bit(image, raw, data)
    if orientation in _TURNS:
        eight = eight.transpose(_TURNS[orientation])
    colours, alpha = _split_alpha(eight)
    return np.array(_to_srgb(colours, profile)), alpha, deep


@contextmanager
def _one_line_reasons() -> Iterator[None]:
    """Whatever goes wrong with a file inside the block is an UnreadablePicture of one line."""
    try:
        yield
    except UnreadablePicture:
        raise
    except Image.DecompressionBombError:
        raise UnreadablePicture(_TOO_MANY) from None
    except UnidentifiedImageError:
        raise UnreadablePicture("not a PNG, JPEG, WebP, BMP or TIFF picture that can be read") from None
    except Exception as error:  # a damaged file can make a decoder raise anything
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
    """EXIF orientation still to be applied, 1 to 8.

    TIFFs are turned by their readers. Of a PNG only what stands before the pixels counts (`PngImageFile.getexif` would
    decode the whole picture to look behind them), so that the header alone tells the size.
    """
    if image.format == "TIFF":
        return 1
    try:
        return int(Image.Image.getexif(image).get(ExifTag.Orientation, 1))
    except Exception:  # damaged metadata must not cost the picture
        return 1


def _raw_mode(image: Image.Image) -> str:
    """Pillow's name for the layout of the samples in the file, such as `RGB;16B`; empty where a format has none."""
    arguments = image.tile[0].args if image.tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _refuse_undefined(image: Image.Image) -> None:
    """Refuse samples without a defined white, and layouts that would be misread."""
    advice = "save it with 8 or 16 bits a sample"
    if image.mode == "F":
        raise UnreadablePicture(f"float samples have no defined white; {advice}")
    if image.mode == "I" and image.format != "PNG":
        raise UnreadablePicture(f"signed or 32-bit samples have no defined white; {advice}")
    if image.mode.startswith("I;16") and _raw_mode(image) == "I;12":
        raise UnreadablePicture(f"12-bit samples are not read; {advice}")
    if image.format == "TIFF" and 16 in image.tag_v2.get(258, ()):
        if image.tag_v2.get(PLANAR_CONFIGURATION) == 2:
            raise UnreadablePicture("a 16-bit TIFF of separate planes is not read; save it interleaved")
        if image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0:
            raise UnreadablePicture("a 16-bit TIFF with white at zero is not read; save it with black at zero")


def _eight_bit(image: Image.Image, raw: str, data: bytes) -> Image.Image:
    """A loaded picture with its 16-bit samples, if it has them, rounded to 8."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray(_round_to_eight(np.asarray(image)))
    if not raw.startswith(_DEEP_COLOURS):
        return image.copy()
    # Pillow keeps only the high byte of several channels; OpenCV keeps all and turns TIFFs as Pillow does.
    deep = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if deep is None or deep.dtype != np.uint16 or deep.ndim != 3:
        raise UnreadablePicture("16-bit samples cannot be decoded; save it with 8 bits a sample")
    order = [2, 1, 0, 3][: deep.shape[2]]
    return Image.fromarray(_round_to_eight(deep[..., order]))


def _round_to_eight(values: np.ndarray) -> np.ndarray:
    """round(v * 255 / 65535), which is round(v / 257), for v in [0, 65535]."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _split_alpha(image: Image.Image) -> tuple[Image.Image, np.ndarray | None]:
    """Colours in mode L, RGB or CMYK, and alpha as uint8 (H, W) where it is not opaque throughout."""
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
    """Convert from the embedded profile, or without one take gray and RGB values as sRGB."""
    if profile:
        try:
            embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            mode = _PROFILE_MODES[embedded.profile.xcolor_space.strip()]
            if image.mode == "L" and mode == "RGB":
                image = image.convert("RGB")
            # Unoptimised gray, since the tables lcms makes for one channel are too coarse in the shadows.
            flags = ImageCms.Flags.NOOPTIMIZE if image.mode == "L" else ImageCms.Flags.NONE
            return ImageCms.profileToProfile(image, embedded, _srgb(), outputMode="RGB", flags=flags)
        except (ImageCms.PyCMSError, OSError, ValueError, KeyError):
            _warn_once("an embedded colour profile cannot be used and is ignored; the colours are taken as sRGB")
    return image.convert("RGB")


def _on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """round((a * c + (255 - a) * 255) / 255) for uint8 (H, W, 3) colours c and (H, W) alpha a."""
    _warn_once("pictures with transparency are laid on white")
    a = alpha[..., None].astype(np.uint16)
    return ((a * rgb + (255 - a) * 255 + 127) // 255).astype(np.uint8)


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@cache
def _warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=4)
