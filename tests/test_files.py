"""The PNG encoder."""

import io
import struct
import sys
import threading
import time

import cv2
import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from ddpm_pairs.files import encode_png


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


def test_other_threads_run_meanwhile():
    """Threads that must be asked by Python to let others run are not asked here: the encoder lets go by itself."""
    picture = torch.randint(0, 256, (3, 1000, 1000), dtype=torch.uint8)
    beats, begun, done = [], threading.Event(), threading.Event()

    def beat():
        begun.set()
        while not done.is_set():
            time.sleep(0.001)
            beats.append(time.perf_counter())

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=beat)
    try:
        sys.setswitchinterval(1000)
        thread.start()
        begun.wait()
        begin = time.perf_counter()
        for _ in range(5):
            encode_png(picture)
        end = time.perf_counter()
    finally:
        sys.setswitchinterval(interval)
        done.set()
        thread.join()
    within = sum(begin < beat < end for beat in beats)
    assert within >= 30, f"{within} beats in {end - begin:.3f} s"
