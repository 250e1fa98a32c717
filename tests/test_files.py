"""Atomic writes and the PNG encoder."""

import csv
import io
import os
import struct
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torchvision
from forked_child import in_child, no_room_beyond
from PIL import Image

from ddpm_pairs.errors import OutputError
from ddpm_pairs.files import atomic_file, encode_png, write_atomically, write_table
from ddpm_pairs.new_folder import atomic_folder


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("size", [(96, 128), (1, 1), (17, 3)])
def test_every_reader_gets_the_same_pixels(channels, size):
    generator = torch.Generator().manual_seed(0)
    picture = torch.randint(0, 256, (channels, *size), dtype=torch.uint8, generator=generator)
    for data in (encode_png(picture), encode_png(picture.permute(1, 2, 0).contiguous().permute(2, 0, 1))):
        pixels = picture.permute(1, 2, 0).numpy()
        image = Image.open(io.BytesIO(data))
        assert image.mode == {3: "RGB", 4: "RGBA"}[channels] and image.info == {}
        np.testing.assert_array_equal(np.asarray(image), pixels)
        order = [2, 1, 0, 3][:channels]
        by_opencv = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(by_opencv, pixels[..., order])
        by_torchvision = torchvision.io.decode_png(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        assert torch.equal(by_torchvision, picture)


def test_files_are_plain_and_equal_pictures_give_equal_files(photos):
    picture = torch.from_numpy(photos[0].copy()).permute(2, 0, 1)
    data = encode_png(picture)
    # width, height, 8 bits, RGB, deflate, usual filters, not interlaced
    assert data[16:29] == struct.pack(">IIBBBBB", 128, 96, 8, 2, 0, 0, 0)
    kinds, position = [], 8
    while position < len(data):
        kinds.append(data[position + 4 : position + 8])
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    assert kinds[0] == b"IHDR" and kinds[-1] == b"IEND" and set(kinds[1:-1]) == {b"IDAT"}
    assert encode_png(picture.clone()) == data
    by_pillow = io.BytesIO()
    Image.fromarray(photos[0]).save(by_pillow, "PNG", compress_level=3)
    assert len(data) < 1.1 * len(by_pillow.getvalue())


def test_other_threads_run_meanwhile(monkeypatch):
    """Threads that must be asked by Python to let others run are not asked here: the encoder lets go by itself.

    It is repeated until the other thread has run in the middle of it, however busy the machine is.
    """
    picture = torch.randint(0, 256, (3, 1000, 1000), dtype=torch.uint8)
    encode, inside, seen, done = cv2.imencode, [], threading.Event(), threading.Event()

    def watched(*arguments):
        inside.append(True)
        try:
            return encode(*arguments)
        finally:
            inside.clear()

    def watch():
        while not done.is_set():
            time.sleep(0.001)
            if inside:
                seen.set()

    monkeypatch.setattr(cv2, "imencode", watched)
    interval = sys.getswitchinterval()
    thread = threading.Thread(target=watch)
    try:
        sys.setswitchinterval(1000)
        thread.start()
        for _ in range(1000):
            encode_png(picture)
            if seen.is_set():
                break
    finally:
        sys.setswitchinterval(interval)
        done.set()
        thread.join()
    assert seen.is_set()


def files_below(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def order(monkeypatch):
    """What is flushed to the disk, and when a name is given, in the order of the calls."""
    calls = []
    fsync, replace, rename = os.fsync, os.replace, os.rename

    def name_of(descriptor):
        return Path(f"/proc/self/fd/{descriptor}").readlink().name

    def noted(kind, work):
        def call(one, *others, **options):
            calls.append((kind, name_of(one) if isinstance(one, int) else Path(others[0]).name))
            return work(one, *others, **options)

        return call

    for kind, work in (("fsync", fsync), ("replace", replace), ("rename", rename)):
        monkeypatch.setattr(os, kind, noted(kind, work))
    return calls


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc which file is flushed")
def test_a_file_is_on_the_disk_before_it_has_its_name_and_the_name_afterwards(tmp_path, order):
    write_atomically(tmp_path / "sub" / "a.txt", b"content")
    (file, name, folder) = order
    assert (
        file[0] == "fsync" and file[1].endswith(".tmp") and name == ("replace", "a.txt") and folder == ("fsync", "sub")
    )
    order.clear()
    write_atomically(tmp_path / "b.txt", b"content", sync=False)
    assert order == [("replace", "b.txt")]
    order.clear()
    with atomic_folder(tmp_path / "made") as unfinished:
        (unfinished / "in").mkdir()
        (unfinished / "in" / "c.txt").write_bytes(b"content")
    names = [name for _, name in order]
    assert {"c.txt", "in"} <= set(names[:2]) and names[3:] == ["made", tmp_path.name] and order[3][0] == "rename"
    assert files_below(tmp_path) == dict.fromkeys(("sub/a.txt", "b.txt", "made/in/c.txt"), b"content")


def test_after_an_error_the_old_file_is_there(tmp_path):
    path = tmp_path / "a.txt"
    write_atomically(path, b"old")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert files_below(tmp_path) == {"a.txt": b"old"}
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "folder") as unfinished:
        (unfinished / "b.txt").touch()
        raise ZeroDivisionError
    assert files_below(tmp_path) == {"a.txt": b"old"}


def test_a_full_disk_leaves_the_old_file(tmp_path):
    write_atomically(tmp_path / "a.txt", b"old")

    def work():
        no_room_beyond(1000)
        with pytest.raises(OutputError, match=r"a.txt cannot be written \(File too large\): check free space"):
            write_atomically(tmp_path / "a.txt", b"x" * 2000)
        with pytest.raises(OutputError, match="folder cannot be written"), atomic_folder(tmp_path / "folder") as made:
            (made / "b.txt").write_bytes(b"x" * 2000)

    assert in_child(work) == 0
    assert files_below(tmp_path) == {"a.txt": b"old"} and [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_what_a_killed_process_left_does_not_matter(tmp_path):
    def killed():
        with atomic_file(tmp_path / "a.txt") as file, atomic_folder(tmp_path / "folder") as unfinished:
            file.write(b"half of something long")
            file.flush()
            (unfinished / "half.txt").write_bytes(b"half")
            os._exit(9)

    assert in_child(killed) == 9
    assert len(files_below(tmp_path)) == 2 and not (tmp_path / "a.txt").exists() and not (tmp_path / "folder").exists()
    write_atomically(tmp_path / "a.txt", b"new")
    with atomic_folder(tmp_path / "folder") as unfinished:
        (unfinished / "b.txt").write_bytes(b"new")
    assert files_below(tmp_path) == {"a.txt": b"new", "folder/b.txt": b"new"}


def test_tables_are_read_back_by_csv(tmp_path):
    rows = [["key", "psnr"], ['é, "x"', "1.5"], ["two\nlines", ""]]
    write_table(tmp_path / "a.csv", rows)
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == rows
