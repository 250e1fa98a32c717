"""Which PNG files can be copied as they are."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from ddpm_pairs.files import encode_png
from ddpm_pairs.images.decode import decode_picture, is_plain_png


@pytest.fixture
def photo(photos):
    return photos[0][:40, :50]


def saved(picture, **options):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", **options)
    return buffer.getvalue()


def chunk(kind, content=b""):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunk(data, *chunks):
    """Chunks put behind the header, which ends at byte 33."""
    return data[:33] + b"".join(chunks) + data[33:]


def text(**lines):
    info = PngInfo()
    for name, value in lines.items():
        info.add_text(name.replace("_", " "), value)
    return info


GAMMA, SRGB = chunk(b"gAMA", struct.pack(">I", 45455)), chunk(b"sRGB", b"\0")


def test_whatever_wrote_it(photo):
    bgr = np.ascontiguousarray(photo[..., ::-1])
    files = [
        saved(photo),
        saved(photo, compress_level=0),
        saved(photo, dpi=(72, 72), pnginfo=text(Software="a camera")),
        cv2.imencode(".png", bgr)[1].tobytes(),
        encode_png(torch.from_numpy(photo.copy()).permute(2, 0, 1)),
        with_chunk(saved(photo), SRGB, GAMMA),
        with_chunk(saved(photo), GAMMA, SRGB),
    ]
    for data in files:
        assert is_plain_png(data)
        np.testing.assert_array_equal(decode_picture(data), photo)
        np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), bgr)


def deep(photo):
    return cv2.imencode(".png", photo.astype(np.uint16) * 257)[1].tobytes()


def interlaced(photo):
    header = saved(photo)[16:28] + b"\1"
    return saved(photo)[:8] + chunk(b"IHDR", header) + saved(photo)[33:]


def animated(photo):
    return saved(photo, save_all=True, append_images=[Image.fromarray(255 - photo)])


def profile(photo):
    return saved(photo, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())


def turned(photo):
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(photo, exif=exif)


OTHERS = {
    "gray": lambda photo: saved(photo[..., 0]),
    "palette": lambda photo: saved(np.asarray(Image.fromarray(photo).quantize(8))),
    "alpha": lambda photo: saved(np.concatenate([photo, photo[..., :1]], axis=2)),
    "one colour transparent": lambda photo: saved(photo, transparency=(1, 2, 3)),
    "16 bits": deep,
    "interlaced": interlaced,
    "animated": animated,
    "profile": profile,
    "EXIF": turned,
    "EXIF as text": lambda photo: saved(photo, pnginfo=text(Raw_profile_type_exif="00")),
    "XMP": lambda photo: saved(photo, pnginfo=text(**{"XML:com.adobe.xmp": "<x/>"})),
    "another gamma": lambda photo: with_chunk(saved(photo), GAMMA),
    "unknown chunk": lambda photo: with_chunk(saved(photo), chunk(b"abCd", b"?")),
    "bytes behind its end": lambda photo: saved(photo) + b"\0",
    "second picture behind its end": lambda photo: saved(photo) * 2,
    "no end": lambda photo: saved(photo)[:-12],
    "cut in a header": lambda photo: saved(photo)[:-9],
    "no pixels": lambda photo: saved(photo)[:33] + saved(photo)[-12:],
    "wrong sum": lambda photo: saved(photo)[:60] + bytes([saved(photo)[60] ^ 1]) + saved(photo)[61:],
    "JPEG": lambda photo: cv2.imencode(".jpg", photo)[1].tobytes(),
    "nothing": lambda photo: b"",
    "the signature alone": lambda photo: saved(photo)[:8],
}


@pytest.mark.parametrize("name", OTHERS)
def test_others_must_be_written_anew(photo, name):
    assert not is_plain_png(OTHERS[name](photo))
