"""Convert samples of any layout, with any declared colors, to 8-bit sRGB."""

import io
import warnings
from functools import cache

import cv2
import numpy as np
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION, PLANAR_CONFIGURATION

from ddpm_pairs.errors import UserError
from ddpm_pairs.images.color_chunks import declared_colors, to_srgb_table

# Pillow's names for color layouts with 16 bits per sample.
_DEEP_COLORS = ("RGB;16", "RGBA;16", "LA;16")
_PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_warned: set[str] = set()


class UnreadablePicture(UserError):  # noqa: N818 (named after its subject, like FileNotFound)
    """A file is not an image, is damaged, or has samples without a defined white; the message says which."""


def to_srgb(
    image: Image.Image, data: bytes, name: str, profile: bytes | None, turn: Image.Transpose | None
) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """Load an image and convert it.

    Args:
        image: The opened image.
        data: Its file.
        name: The name of the file, for warnings.
        profile: A profile that replaces the embedded one.
        turn: The operation that undoes its EXIF orientation.

    Returns:
        Colors ``(H, W, 3)``, and alpha ``(H, W)`` or ``None``, both uint8; and whether samples have 16 bits.

    Raises:
        UnreadablePicture: If samples have no defined white, or would be decoded incorrectly.
    """
    _refuse_undefined(image)
    raw, profile = _raw_mode(image), profile or image.info.get("icc_profile")
    gamma = _gamma(data, image, name, profile)
    deep = image.mode.startswith("I") or raw.startswith(_DEEP_COLORS)
    image.load()
    eight = _eight_bit(image, raw, data, gamma)
    if turn is not None:
        eight = eight.transpose(turn)
    colors, alpha = _split_alpha(eight)
    if gamma is not None and not deep and colors.mode != "CMYK":
        colors = colors.point(to_srgb_table(gamma, 256).tolist() * len(colors.getbands()))
    return np.array(_convert(colors, profile)), alpha, deep


def _gamma(data: bytes, image: Image.Image, name: str, profile: bytes | None) -> float | None:
    """Return the gamma of the file if it must be converted, and warn of other declarations about its colors."""
    info = image.info if profile is None else image.info | {"icc_profile": profile}
    try:
        declared = declared_colors(data, info)
    except UserError as error:  # HDR
        raise UnreadablePicture(str(error)) from None
    for chunk in declared.ignored:
        warn_once(chunk, f"{name} declares its colors in {chunk}, which is ignored; they are taken as sRGB")
    return declared.gamma


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


def _eight_bit(image: Image.Image, raw: str, data: bytes, gamma: float | None) -> Image.Image:
    """Return a loaded image with 8-bit samples; 16-bit samples are rounded, after conversion if there is a gamma."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray(_round_to_eight(np.asarray(image), gamma))
    if not raw.startswith(_DEEP_COLORS):
        return image.copy()
    # Pillow keeps only the high byte if there are several channels. OpenCV keeps all bits, and applies the
    # orientation of a TIFF like Pillow.
    deep = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if deep is None or deep.dtype != np.uint16 or deep.ndim != 3:
        raise UnreadablePicture("16-bit samples cannot be decoded; save it with 8 bits per sample")
    order = [2, 1, 0, 3][: deep.shape[2]]
    eight = _round_to_eight(deep[..., order], gamma)
    eight[..., 3:] = _round_to_eight(deep[..., 3:], None)
    return Image.fromarray(eight)


def _round_to_eight(values: np.ndarray, gamma: float | None) -> np.ndarray:
    """Compute round(v * 255 / 65535), which is round(v / 257), for v in [0, 65535], or sRGB if there is a gamma."""
    if gamma is not None:
        return to_srgb_table(gamma, 2**16)[values]
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


def _convert(image: Image.Image, profile: bytes | None) -> Image.Image:
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
            warn_once("an embedded color profile cannot be used and is ignored; its colors are taken as sRGB")
    return image.convert("RGB")


def on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Compute round((a * c + (255 - a) * 255) / 255) for uint8 colors c ``(H, W, 3)`` and alpha a ``(H, W)``."""
    warn_once("images with transparency are composited on white")
    a = alpha[..., None].astype(np.uint16)
    return ((a * rgb + (255 - a) * 255 + 127) // 255).astype(np.uint8)


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def warn_once(kind: str, message: str | None = None) -> None:
    """Warn once per process of each kind; the message may name the file."""
    if kind not in _warned:
        _warned.add(kind)
        warnings.warn(message or kind, stacklevel=5)
