"""Formats that Pillow reads only in some versions, or with a plugin: AVIF, HEIC, and JPEG XL."""

import importlib
import warnings
from types import ModuleType

from PIL import features

EXTRA = "pip install 'ddpm_pairs[images]'"
_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_JPEG_XL = (b"\xff\x0a", b"\x00\x00\x00\x0cJXL ")


def is_extra(head: bytes) -> bool:
    """Return whether a file that starts with these 32 bytes is of one of these formats."""
    brands = head[8:] if head[4:8] == b"ftyp" else b""
    return head.startswith(_JPEG_XL) or any(brand in brands for brand in _AVIF_BRANDS + _HEIF_BRANDS)


def format_of(head: bytes) -> str:
    """Return Pillow's name of the format, after its reader has been installed.

    Raises:
        ImportError: If there is no reader; the message names the format and what to install.
    """
    if head.startswith(_JPEG_XL):
        _plugin("pillow_jxl", "JPEG XL")
        return "JXL"
    if any(brand in head[8:] for brand in _AVIF_BRANDS):
        if not features.check("avif"):
            raise ImportError("AVIF needs Pillow 11.3 or newer with AVIF; run pip install --upgrade pillow")
        return "AVIF"
    _plugin("pillow_heif", "HEIC").register_heif_opener()
    return "HEIF"


def _plugin(module: str, name: str) -> ModuleType:
    try:
        with warnings.catch_warnings(action="ignore"):
            return importlib.import_module(module)
    except ImportError:
        raise ImportError(f"{name} needs a plugin for Pillow; run {EXTRA}") from None
