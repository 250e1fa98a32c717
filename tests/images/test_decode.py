import io
import struct
import sys
import tracemalloc
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, features

from ddpm_pairs.images import samples
from ddpm_pairs.images.decode import UnreadablePicture, decode_picture, decode_with_alpha, read_size


@pytest.fixture(autouse=True)
def fresh_warnings():
    samples._warned.clear()


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def noise(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def rounded(values):
    """round(v * 255 / 65535) in exact arithmetic; no v lies half-way since 257 is odd."""
    return np.array([(2 * int(v) * 255 + 65535) // (2 * 65535) for v in values.ravel()], np.uint8).reshape(values.shape)


# Colour models


def test_rgb_png_is_returned_as_it_is(tmp_path, photos):
    out = decode_picture(save(tmp_path / "a.png", photos[0]))
    assert out.dtype == np.uint8 and out.flags.writeable
    np.testing.assert_array_equal(out, photos[0])


def test_bytes_and_path_are_the_same(tmp_path, photos):
    path = save(tmp_path / "a.jpg", photos[0], quality=80)
    np.testing.assert_array_equal(decode_picture(path.read_bytes()), decode_picture(path))
    np.testing.assert_array_equal(decode_picture(path), np.asarray(Image.open(path)))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".jpg"])
def test_gray_becomes_three_equal_channels(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", np.full((20, 30), 77, np.uint8))
    np.testing.assert_array_equal(decode_picture(path), np.full((20, 30, 3), 77))


def test_one_bit_png(tmp_path):
    bits = noise(20, 30) > 127
    Image.fromarray(bits).save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode_picture(tmp_path / "a.png")[..., 1], np.where(bits, 255, 0))


def test_cmyk_jpeg_as_pillow_converts_it(tmp_path, photos):
    Image.fromarray(photos[0]).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    out = decode_picture(tmp_path / "a.jpg")
    np.testing.assert_array_equal(out, np.asarray(Image.open(tmp_path / "a.jpg").convert("RGB")))
    assert np.abs(out.astype(int) - photos[0]).mean() < 4  # not inverted, as these files often come out


def test_rgba_is_laid_on_white(tmp_path):
    rgba = noise(64, 64, 4)
    with pytest.warns(UserWarning, match="transparency"):
        out = decode_picture(save(tmp_path / "a.png", rgba))
    colour, alpha = rgba[..., :3].astype(int), rgba[..., 3:].astype(int)
    exact = np.floor((alpha * colour + (255 - alpha) * 255) / 255 + 0.5)
    np.testing.assert_array_equal(out, exact)


def test_transparency_is_warned_of_once_and_not_where_all_is_opaque(tmp_path):
    opaque = np.dstack([noise(20, 20, 3), np.full((20, 20), 255, np.uint8)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(decode_picture(save(tmp_path / "a.png", opaque)), opaque[..., :3])
    with pytest.warns(UserWarning, match="transparency"):
        decode_picture(save(tmp_path / "b.png", noise(20, 20, 4)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode_picture(save(tmp_path / "c.png", noise(20, 20, 4)))


def test_gray_with_alpha(tmp_path):
    gray, alpha = np.full((20, 20), 100, np.uint8), np.full((20, 20), 51, np.uint8)
    Image.merge("LA", [Image.fromarray(gray), Image.fromarray(alpha)]).save(tmp_path / "a.png")
    with pytest.warns(UserWarning, match="transparency"):
        assert np.unique(decode_picture(tmp_path / "a.png")) == 224  # 0.2 * 100 + 0.8 * 255


@pytest.mark.parametrize("transparent", [False, True])
def test_palette_png(tmp_path, transparent):
    indices = noise(20, 30) % 4
    colours = np.array([[250, 10, 20], [1, 2, 3], [90, 200, 7], [255, 255, 0]], np.uint8)
    image = Image.fromarray(indices, mode="L")
    image = image.convert("P")
    image.putdata(indices.ravel())
    image.putpalette(colours.ravel().tolist())
    if not transparent:
        image.save(tmp_path / "a.png")
        np.testing.assert_array_equal(decode_picture(tmp_path / "a.png"), colours[indices])
        return
    image.save(tmp_path / "a.png", transparency=2)
    colours[2] = 255
    with pytest.warns(UserWarning, match="transparency"):
        np.testing.assert_array_equal(decode_picture(tmp_path / "a.png"), colours[indices])


def test_first_frame_of_an_animation(tmp_path, photos):
    frames = [Image.fromarray(photo) for photo in photos[:2]]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert Image.open(tmp_path / "a.webp").n_frames == 2
    np.testing.assert_array_equal(decode_picture(tmp_path / "a.webp"), photos[0])


# 16 bit


def test_16_bit_gray_png_is_rounded(tmp_path):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    out = decode_picture(save(tmp_path / "a.png", values))
    np.testing.assert_array_equal(out[..., 0], rounded(values))
    np.testing.assert_array_equal(out[..., 2], out[..., 0])
    assert out[0, 129, 0] == 1 and out[0, 128, 0] == 0  # v / 257 passes 1/2 between 128 and 129


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_16_bit_gray_tiff_is_rounded(tmp_path, byteorder):
    values = noise(20, 30, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, byteorder=byteorder)
    np.testing.assert_array_equal(decode_picture(tmp_path / "a.tif")[..., 1], rounded(values))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_rgb_is_rounded(tmp_path, suffix):
    values = noise(40, 30, 3, dtype=np.uint16)
    assert cv2.imwrite(str(tmp_path / f"a{suffix}"), values[..., ::-1])
    out = decode_picture(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(out, rounded(values))
    assert (out != values >> 8).mean() > 0.2  # a test that truncation would fail


def test_16_bit_rgb_tiff_is_turned_once(tmp_path):
    values = noise(20, 30, 3, dtype=np.uint16)
    for orientation, turned in enumerate(orientations(rounded(values)), start=1):
        path = tmp_path / f"{orientation}.tif"
        tifffile.imwrite(path, values, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
        np.testing.assert_array_equal(decode_picture(path), turned)
        assert read_size(path) == turned.shape[:2]


def test_16_bit_rgba_png(tmp_path):
    values = noise(20, 30, 4, dtype=np.uint16)
    assert cv2.imwrite(str(tmp_path / "a.png"), values[..., [2, 1, 0, 3]])
    with pytest.warns(UserWarning, match="transparency"):
        out = decode_picture(tmp_path / "a.png")
    alpha = values[..., 3:] / 65535
    exact = (alpha * values[..., :3] / 65535 + 1 - alpha) * 255
    assert np.abs(out - exact).max() < 1.5  # colour, alpha and result are each rounded to 8 bits


@pytest.mark.parametrize(
    ("array", "options", "reason"),
    [
        (np.zeros((20, 20), np.float32), {}, "float"),
        (np.zeros((20, 20), np.uint32), {}, "32-bit"),
        (np.zeros((20, 20), np.int16), {}, "signed"),
        (np.zeros((3, 20, 20), np.uint16), {"photometric": "rgb", "planarconfig": "separate"}, "separate planes"),
        (np.zeros((20, 20), np.uint16), {"photometric": "miniswhite"}, "white at zero"),
    ],
)
def test_samples_without_a_defined_white_are_refused(tmp_path, array, options, reason):
    tifffile.imwrite(tmp_path / "a.tif", array, **options)
    with pytest.raises(UnreadablePicture, match=reason):
        decode_picture(tmp_path / "a.tif")


# EXIF


def orientations(stored):
    """The picture to be seen for EXIF orientations 1 to 8, from what row 0 and column 0 stand for (CIPA DC-008)."""
    h, w = stored.shape[:2]
    seen = []
    # where pixel (y, x) of the file belongs
    places = [
        lambda y, x: (y, x),  # row 0 at the top, column 0 left
        lambda y, x: (y, w - 1 - x),  # top, right
        lambda y, x: (h - 1 - y, w - 1 - x),  # bottom, right
        lambda y, x: (h - 1 - y, x),  # bottom, left
        lambda y, x: (x, y),  # left, top
        lambda y, x: (x, h - 1 - y),  # right, top
        lambda y, x: (w - 1 - x, h - 1 - y),  # right, bottom
        lambda y, x: (w - 1 - x, y),  # left, bottom
    ]
    for number, place in enumerate(places, start=1):
        out = np.zeros((h, w, 3) if number < 5 else (w, h, 3), stored.dtype)
        for y in range(h):
            for x in range(w):
                out[place(y, x)] = stored[y, x]
        seen.append(out)
    return seen


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg", ".tif"])
def test_exif_orientation(tmp_path, suffix):
    stored = noise(17, 24, 3)
    for orientation, turned in enumerate(orientations(stored), start=1):
        exif = Image.Exif()
        exif[274] = orientation
        path = tmp_path / f"{orientation}{suffix}"
        if suffix == ".jpg":  # lossy: compare with what is stored in the file
            save(path, stored, exif=exif)
            turned = orientations(np.asarray(Image.open(path)))[orientation - 1]
        else:
            save(path, stored, exif=exif, **({"lossless": True} if suffix == ".webp" else {}))
        np.testing.assert_array_equal(decode_picture(path), turned)
        assert read_size(path) == turned.shape[:2]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_or_senseless_exif_does_not_cost_the_picture(tmp_path):
    stored = noise(17, 24, 3)
    exif = Image.Exif()
    exif[274] = 9
    for name, data in {"garbage": b"Exif\0\0MM\0\x2a\xff\xff\xff\xff", "nine": exif.tobytes()}.items():
        path = save(tmp_path / f"{name}.png", stored, exif=data)
        np.testing.assert_array_equal(decode_picture(path), stored)
        assert read_size(path) == (17, 24)


# Colour profiles


def icc_profile(space=b"RGB "):
    """A linear-light profile (gamma 1), sRGB primaries adapted to D50, after ICC.1:2001-04."""

    def xyz(*values):
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(v * 65536)) for v in values)

    curve = b"curv\0\0\0\0" + struct.pack(">I", 0)  # no entries: identity
    text = b"linear\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
    }
    if space == b"RGB ":
        tags |= {b"rXYZ": xyz(0.4360747, 0.2225045, 0.0139322), b"gXYZ": xyz(0.3850649, 0.7168786, 0.0971045)}
        tags |= {b"bXYZ": xyz(0.1430804, 0.0606169, 0.7141733), b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    else:
        tags |= {b"kTRC": curve}
    offset, table, body = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data
    header = struct.pack(">I4sI4s4s4s", offset + len(body), bytes(4), 0x02100000, b"mntr", space, b"XYZ ")
    header += struct.pack(">6H", 2001, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + bytes.fromhex("0000f6d6000100000000d32d")
    return header.ljust(128, b"\0") + table + body


def srgb_encoded(linear):
    """IEC 61966-2-1, linear light in [0, 1] to 8-bit values, unrounded."""
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def test_linear_rgb_profile_is_converted(tmp_path):
    stored = noise(20, 30, 3)
    out = decode_picture(save(tmp_path / "a.png", stored, icc_profile=icc_profile()))
    assert np.abs(out - srgb_encoded(stored / 255)).max() < 1.5
    assert np.abs(out.astype(int) - stored).max() > 50


def test_linear_gray_profile_is_converted(tmp_path):
    stored = np.arange(256, dtype=np.uint8).reshape(16, 16)
    out = decode_picture(save(tmp_path / "a.png", stored, icc_profile=icc_profile(b"GRAY")))
    assert np.abs(out - srgb_encoded(stored / 255)[..., None]).max() < 1.5


def test_profile_of_a_16_bit_picture_is_converted(tmp_path):
    values = noise(20, 30, dtype=np.uint16)
    out = decode_picture(save(tmp_path / "a.png", values, icc_profile=icc_profile(b"GRAY")))
    assert np.abs(out - srgb_encoded(rounded(values) / 255)[..., None]).max() < 1.5


def test_rgb_profile_on_a_gray_picture(tmp_path):
    stored = np.arange(256, dtype=np.uint8).reshape(16, 16)
    out = decode_picture(save(tmp_path / "a.png", stored, icc_profile=icc_profile()))
    assert np.abs(out - srgb_encoded(stored / 255)[..., None]).max() < 1.5


def test_srgb_profile_changes_nothing(tmp_path):
    stored = noise(64, 64, 3)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    out = decode_picture(save(tmp_path / "a.png", stored, icc_profile=profile))
    np.testing.assert_array_equal(out, stored)


@pytest.mark.parametrize("kind", ["garbage", "gray profile on colours", "lab"])
def test_unusable_profile_is_ignored_with_a_warning(tmp_path, kind):
    profile = {
        "garbage": b"no profile",
        "gray profile on colours": icc_profile(b"GRAY"),
        "lab": ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(),
    }[kind]
    stored = noise(20, 30, 3)
    with pytest.warns(UserWarning, match="profile"):
        out = decode_picture(save(tmp_path / "a.png", stored, icc_profile=profile))
    np.testing.assert_array_equal(out, stored)


# Broken files


def encoded(array, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "WEBP"])
def test_truncated_files_are_refused(tmp_path, photos, kind):
    data = encoded(photos[0], kind)
    (tmp_path / "a").write_bytes(data[: len(data) // 2])
    with pytest.raises(UnreadablePicture) as caught:
        decode_picture(tmp_path / "a")
    assert str(caught.value) and "\n" not in str(caught.value)


def test_truncated_16_bit_png_is_refused():
    data = cv2.imencode(".png", noise(64, 64, 3, dtype=np.uint16))[1].tobytes()
    with pytest.raises(UnreadablePicture):
        decode_picture(data[: len(data) // 2])


def test_damaged_png_is_refused(photos):
    data = bytearray(encoded(photos[0], "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(UnreadablePicture):
        decode_picture(bytes(data))


@pytest.mark.parametrize("read", [decode_picture, read_size])
def test_what_is_no_picture(tmp_path, read):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("this is a text, whatever its name says\n")
    with pytest.raises(UnreadablePicture, match="the file is empty"):
        read(tmp_path / "empty.png")
    with pytest.raises(
        UnreadablePicture, match="not a readable PNG, JPEG, WebP, BMP, TIFF, AVIF, HEIC, or JPEG XL image"
    ):
        read(tmp_path / "text.png")
    with pytest.raises(UnreadablePicture, match="No such file"):
        read(tmp_path / "gone.png")


def test_read_size_reads_the_header_only(tmp_path, photos):
    data = encoded(photos[0], "PNG")
    (tmp_path / "a.png").write_bytes(data[:200])
    assert read_size(tmp_path / "a.png") == (96, 128)


def test_a_picture_of_three_pixels(tmp_path):
    stored = noise(3, 3, 3)
    path = save(tmp_path / "a.png", stored)
    assert read_size(path) == (3, 3)
    np.testing.assert_array_equal(decode_picture(path), stored)


# Transparency kept


def test_alpha_is_kept_beside_the_colours_under_it(tmp_path):
    rgba = noise(30, 20, 4)
    colours, alpha = decode_with_alpha(save(tmp_path / "a.png", rgba))
    np.testing.assert_array_equal(colours, rgba[..., :3])
    np.testing.assert_array_equal(alpha, rgba[..., 3])
    np.testing.assert_array_equal(decode_with_alpha((tmp_path / "a.png").read_bytes())[1], rgba[..., 3])


def test_alpha_is_turned_with_the_picture(tmp_path):
    rgba, exif = noise(30, 20, 4), Image.Exif()
    exif[0x0112] = 6
    colours, alpha = decode_with_alpha(save(tmp_path / "a.png", rgba, exif=exif))
    np.testing.assert_array_equal(colours, np.rot90(rgba[..., :3], -1))
    np.testing.assert_array_equal(alpha, np.rot90(rgba[..., 3], -1))


def test_opaque_pictures_have_no_alpha(tmp_path, photos):
    opaque = np.concatenate([photos[0], np.full((*photos[0].shape[:2], 1), 255, np.uint8)], 2)
    for name, array in (("rgb.png", photos[0]), ("rgba.png", opaque)):
        colours, alpha = decode_with_alpha(save(tmp_path / name, array))
        assert alpha is None
        np.testing.assert_array_equal(colours, photos[0])


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_16_bits_are_refused_where_they_would_be_lost(tmp_path, channels, suffix):
    path = tmp_path / f"deep{suffix}"
    cv2.imwrite(str(path), noise(20, 30, channels, dtype=np.uint16).squeeze())
    reason = "16-bit samples would be rounded to 8 bits; save it with 8 bits per sample"
    with pytest.raises(UnreadablePicture, match=reason):
        decode_with_alpha(path)


def png_claiming(width, height):
    """A PNG of a few hundred bytes whose header claims so many pixels, gray, 8 bits."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [22_361, 30_000, 40_000, 2_000_000])  # 22360.7 is the root of the limit
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decompression_bombs_are_refused_by_their_header(tmp_path, side):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_claiming(side, side))
    tracemalloc.start()
    for read in (read_size, decode_picture, decode_with_alpha):
        with pytest.raises(UnreadablePicture, match="more than 500 million pixels, possibly a decompression bomb"):
            read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6


def test_large_pictures_are_no_bombs(tmp_path):
    path = tmp_path / "scan.png"
    path.write_bytes(png_claiming(22_360, 22_360))
    assert read_size(path) == (22_360, 22_360)


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_packed_metadata_does_not_unfold_without_limit(tmp_path, kind):
    """100 MB of zeros in 100 kB of text or of a colour profile."""
    name = b"Comment" if kind == b"zTXt" else b"profile"
    data = name + b"\0\0" + zlib.compress(bytes(100_000_000), 9)
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    whole = png_claiming(10, 10)
    path = tmp_path / "x.png"
    path.write_bytes(whole[:33] + chunk + whole[33:])
    tracemalloc.start()
    with warnings.catch_warnings(record=True) as said:
        decoded = decode_picture(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 80_000_000
    np.testing.assert_array_equal(decoded, decode_picture(whole))
    assert ["unusable chunk iCCP" in str(one.message) for one in said] == [True] * (kind == b"iCCP")


# Files whose pixels are whole


def chunk(kind, content, checksum=None):
    """One chunk of a PNG; the checksum is right unless it is given."""
    crc = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)


def png_with(array, *chunks):
    """A PNG with chunks before its pixels."""
    data = encoded(array, "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def both(tmp_path, data, name="x.png"):
    """What ``decode_picture`` gives for a file, after checking that ``read_size`` agrees; and its warnings."""
    (tmp_path / name).write_bytes(data)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        decoded = decode_picture(tmp_path / name)
        assert read_size(tmp_path / name) == decoded.shape[:2]
    return decoded, [str(one.message) for one in said]


LONG_TEXT = b"Comment\0\0" + zlib.compress(b"a" * 3_000_000)


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(b"zTXt", LONG_TEXT)],
        [chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(b"a" * 3_000_000))],
        [chunk(b"zTXt", b"n%d\0\0" % n + zlib.compress(b"a" * 1_000_000)) for n in range(70)],
        [chunk(b"tEXt", b"Comment\0text", checksum=1)],
        [chunk(b"pHYs", bytes(9), checksum=1), chunk(b"zTXt", LONG_TEXT)],
        [chunk(b"zTXt", b"Comment\0\0not zlib")],
    ],
)
def test_text_does_not_cost_the_picture(tmp_path, photos, chunks):
    decoded, said = both(tmp_path, png_with(photos[0], *chunks))
    np.testing.assert_array_equal(decoded, photos[0])
    assert said == []
    behind = encoded(photos[0], "PNG")
    np.testing.assert_array_equal(both(tmp_path, behind[:-12] + chunks[0] + behind[-12:])[0], photos[0])


def test_large_profile_is_converted_and_a_damaged_one_named(tmp_path, photos):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    padded = (len(profile) + 2_000_000).to_bytes(4, "big") + profile[4:] + bytes(2_000_000)
    content = b"large\0\0" + zlib.compress(padded)
    decoded, said = both(tmp_path, png_with(photos[0], chunk(b"iCCP", content)))
    assert np.abs(decoded.astype(int) - photos[0]).max() <= 1 and said == []
    decoded, said = both(tmp_path, png_with(photos[0], chunk(b"iCCP", content, checksum=1)))
    np.testing.assert_array_equal(decoded, photos[0])
    assert len(said) == 1 and "x.png has an unusable chunk iCCP" in said[0]


def test_damaged_pixels_stay_refused(tmp_path, photos):
    data = bytearray(png_with(photos[0], chunk(b"zTXt", LONG_TEXT)))
    data[data.index(b"IDAT") + 200] ^= 255
    with pytest.raises(UnreadablePicture):
        decode_picture(bytes(data))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("stray", [b"\r\n", b"\xef\xbb\xbf", b"\0" * 1000])
def test_stray_bytes_before_a_file(tmp_path, photos, kind, stray):
    data = encoded(photos[0], kind)
    decoded, said = both(tmp_path, stray + data)
    np.testing.assert_array_equal(decoded, decode_picture(data))
    assert len(said) == 1 and f"x.png has {len(stray)} stray bytes" in said[0]


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 100, "subsampling": 0}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_without_its_end_marker(tmp_path, photos, options, mode):
    file = io.BytesIO()
    Image.fromarray(photos[0]).convert(mode).save(file, "JPEG", **options)
    data = file.getvalue()
    for cut in (1, 2):
        samples._warned.clear()
        decoded, said = both(tmp_path, data[:-cut])
        np.testing.assert_array_equal(decoded, decode_picture(data))
        assert len(said) == 1 and "x.png lacks the end marker" in said[0]
    for cut in (5, 20, len(data) // 3):  # a byte or two of padding may be missing from the last block
        with pytest.raises(UnreadablePicture, match="truncated"):
            decode_picture(data[:-cut])


def test_progressive_jpeg_without_its_last_scan_is_truncated(photos):
    data = encoded(photos[0], "JPEG", progressive=True)
    with pytest.raises(UnreadablePicture, match="truncated"):
        decode_picture(data[: data.rindex(b"\xff\xda")])


# Declared colors


def srgb_of(light):
    """sRGB from linear light, as IEC 61966-2-1 defines it."""
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("gamma", [1.0, 0.5556])
@pytest.mark.parametrize("kind", ["RGB", "L", "RGBA", "RGB16", "L16"])
def test_gamma_is_converted(tmp_path, gamma, kind):
    deep = kind.endswith("16")
    top, dtype = (65535, np.uint16) if deep else (255, np.uint8)
    shape = {"RGB": (9, 9, 3), "L": (9, 9), "RGBA": (9, 9, 4)}[kind.removesuffix("16")]
    stored = noise(*shape, dtype=dtype)
    order = [2, 1, 0, 3][: shape[2]] if len(shape) == 3 else ...
    data = cv2.imencode(".png", stored[..., order] if len(shape) == 3 else stored)[1].tobytes()
    data = data[:33] + chunk(b"gAMA", round(gamma * 100_000).to_bytes(4, "big")) + data[33:]
    (tmp_path / "x.png").write_bytes(data)
    decoded, alpha = (decode_picture(data), None) if deep else decode_with_alpha(data)
    colors = stored[..., None].repeat(3, -1) if stored.ndim == 2 else stored[..., :3]
    expected = srgb_of((colors / top) ** (1 / gamma))
    assert np.abs(decoded - expected).max() <= 0.51
    if alpha is not None:
        np.testing.assert_array_equal(alpha, stored[..., 3])


@pytest.mark.parametrize(
    ("chunks", "said"),
    [
        ([chunk(b"gAMA", (45455).to_bytes(4, "big"))], None),
        ([chunk(b"gAMA", (100_000).to_bytes(4, "big")), chunk(b"sRGB", b"\0")], None),
        ([chunk(b"gAMA", bytes(4))], "gAMA"),
        ([chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))], "cHRM"),
        ([chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))], None),
        ([chunk(b"cICP", bytes([1, 13, 0, 1]))], None),
        ([chunk(b"cICP", bytes([12, 13, 0, 1]))], "cICP"),
        ([chunk(b"mDCV", bytes(24))], "mDCV"),
    ],
)
def test_other_declarations_are_named(tmp_path, photos, chunks, said):
    decoded, warned = both(tmp_path, png_with(photos[0], *chunks))
    np.testing.assert_array_equal(decoded, photos[0])
    assert [f"x.png declares its colors in {said}" in one for one in warned] == ([] if said is None else [True])


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused(photos, transfer, name):
    with pytest.raises(UnreadablePicture, match=rf"HDR samples \({name}, cICP\)"):
        decode_picture(png_with(photos[0], chunk(b"cICP", bytes([9, transfer, 0, 1]))))


# Formats of some versions and plugins


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif(tmp_path, photos):
    data = encoded(photos[0], "AVIF", quality=95)
    decoded, said = both(tmp_path, data, "x.avif")
    assert np.abs(decoded.astype(int) - photos[0]).mean() < 4 and said == []
    with pytest.raises(UnreadablePicture):
        decode_picture(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("head", "plugin", "name"),
    [
        (b"\0\0\0\x18ftypheic", "pillow_heif", "HEIC"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "pillow_jxl", "JPEG XL"),
        (b"\xff\x0a", "pillow_jxl", "JPEG XL"),
    ],
)
@pytest.mark.parametrize("read", [decode_picture, read_size])
def test_formats_without_their_plugin_are_named(tmp_path, monkeypatch, read, head, plugin, name):
    monkeypatch.setitem(sys.modules, plugin, None)
    (tmp_path / "x").write_bytes(head + bytes(100))
    with pytest.raises(
        UnreadablePicture, match=f"{name} needs a plugin for Pillow; run pip install 'ddpm_pairs.images"
    ):
        read(tmp_path / "x")


def test_devices_are_no_pictures():
    with pytest.raises(UnreadablePicture, match="not a regular file"):
        decode_picture(Path("/dev/null"))
