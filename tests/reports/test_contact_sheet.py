import numpy as np
import pytest
from PIL import Image

from ddpm_pairs.reports.contact_sheet import MAX_BYTES, TILE, Entry, draw_sheet, save_sheet, shown_part, spread

RED, GREEN = (255, 0, 0), (0, 255, 0)
HEADINGS = ("HQ", "initial LQ", "LQ")


def noise(width, height, seed=0):
    """Random pixels that are neither red nor green nor gray."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels[..., 2] = 255
    pixels[..., 0] //= 2
    return Image.fromarray(pixels)


def entry(lq, scale=4, title="a", **others):
    size = (lq.width * scale, lq.height * scale)
    pictures = others.get("pictures", (Image.new("RGB", size, RED), Image.new("RGB", lq.size, GREEN), lq))
    return Entry(pictures, title, "t 1")


def box_of(sheet, colour):
    """(top, left, bottom, right) of the pixels of a colour."""
    rows, columns = np.nonzero((np.asarray(sheet) == colour).all(axis=2))
    return rows.min(), columns.min(), rows.max() + 1, columns.max() + 1


@pytest.mark.parametrize(
    ("size", "box", "factor"),
    [
        ((64, 64), (0, 0, 64, 64), 4),
        ((120, 80), (0, 0, 120, 80), 2),
        ((80, 120), (0, 0, 80, 120), 2),
        ((128, 16), (0, 0, 128, 16), 2),
        ((200, 100), (36, 0, 164, 100), 2),
        ((256, 192), (0, 0, 256, 192), 1),
        ((512, 400), (128, 72, 384, 328), 1),
        ((16, 16), (0, 0, 16, 16), 16),
    ],
)
def test_shown_part(size, box, factor):
    assert shown_part(size) == (box, factor)


@pytest.mark.parametrize(
    ("size", "scale", "shown"),
    [((64, 64), 4, (256, 256)), ((120, 80), 4, (240, 160)), ((80, 120), 4, (160, 240)), ((256, 160), 1, (256, 160))],
)
def test_hq_initial_and_lq_stand_side_by_side_in_one_size(size, scale, shown):
    lq = noise(*size)
    sheet = draw_sheet([entry(lq, scale)], HEADINGS, "pairs")
    hq_box, initial_box = box_of(sheet, RED), box_of(sheet, GREEN)
    for top, left, bottom, right in (hq_box, initial_box):
        assert (right - left, bottom - top) == shown
    assert hq_box[0] == initial_box[0]
    assert initial_box[1] - hq_box[1] > shown[0]

    top, left = initial_box[0], 2 * initial_box[1] - hq_box[1]
    factor = shown[0] // size[0]
    found = np.asarray(sheet)[top : top + shown[1], left : left + shown[0]]
    assert np.array_equal(found, np.asarray(lq).repeat(factor, axis=0).repeat(factor, axis=1))
    outside = np.asarray(sheet)[:, left + shown[0] :]
    assert (outside == 255).all()


def test_hq_shows_the_part_that_lq_shows():
    lq = noise(200, 100)  # columns 36..164 are shown, of HQ 144..656
    hq = np.zeros((400, 800, 3), np.uint8)
    hq[:, 144:656] = RED
    sheet = draw_sheet([entry(lq, pictures=(Image.fromarray(hq), None, lq))], HEADINGS, "pairs")
    top, left, bottom, right = box_of(sheet, RED)
    assert (right - left, bottom - top) == (256, 200)
    assert (np.asarray(sheet)[top:bottom, left:right] == RED).all()


def test_entries_follow_row_by_row_with_captions_below():
    entries = [entry(noise(64, 64, n)) for n in range(3)]
    sheet = np.asarray(draw_sheet(entries, HEADINGS, "pairs"))
    red = (sheet == RED).all(axis=2)
    columns = np.flatnonzero(np.diff(red.any(axis=0).astype(int), prepend=0, append=0))
    rows = np.flatnonzero(np.diff(red.any(axis=1).astype(int), prepend=0, append=0))
    assert len(columns) == len(rows) == 4  # two columns and two rows of entries
    assert not red[rows[2] : rows[3], columns[2] : columns[3]].any()  # the fourth place is empty
    between = sheet[rows[1] : rows[2], columns[0] : columns[1]]
    assert (between < 128).all(axis=2).sum() > 20  # dark letters


def test_long_titles_stay_in_the_sheet():
    long = draw_sheet([entry(noise(64, 64), title="folder/" * 60 + "name")], HEADINGS, "x" * 500)
    assert long.size == draw_sheet([entry(noise(64, 64))], HEADINGS, "pairs").size
    assert (np.asarray(long)[:, -16:] == 255).all()


def test_a_heavy_sheet_shows_fewer_entries_and_no_part_file_stays(tmp_path):
    heavy = [Entry((noise(256, 256, 3 * n), noise(256, 256, 3 * n + 1), noise(256, 256, 3 * n + 2)), f"{n}", "")
             for n in range(12)]  # fmt: skip
    save_sheet(tmp_path / "sheet.png", heavy, HEADINGS, "pairs")
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
    assert MAX_BYTES / 4 < (tmp_path / "sheet.png").stat().st_size <= MAX_BYTES
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height > 2 * TILE


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [
        (3, 5, [0, 1, 2]),
        (5, 5, [0, 1, 2, 3, 4]),
        (9, 3, [0, 4, 8]),
        (300, 4, [0, 100, 199, 299]),
        (7, 1, [0]),
        (1, 12, [0]),
        (23, 12, [*range(0, 23, 2)]),
    ],
)
def test_spread(count, most, expected):
    assert spread(count, most) == expected
