"""The faces of a bank: where they come from, and the crop that a code is read from."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_pairs.bank.faces import find_faces, of_source, photograph_of, read_face
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.find import Failure
from ddpm_pairs.images.pixels import resize_bicubic


def save(pixels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def place(tmp_path, photos):
    """Five pairs of different scales, in two folders."""
    sizes = {"one/a": (32, 4), "one/b": (32, 2), "two/a": (40, 1), "c": (24, 2), "d": (16, 2)}
    for number, (key, (side, scale)) in enumerate(sizes.items()):
        hq = photos[number % 4][:side, :side]
        save(hq, tmp_path / "hq" / f"{key}.png")
        save(hq[::scale, ::scale], tmp_path / "lq" / f"{key}.png")
    return tmp_path


def sources(faces):
    return [face.source for face in faces]


def test_without_records_the_source_is_the_lq_file(place):
    faces, failures = find_faces(str(place))
    assert sources(faces) == ["c.png", "d.png", "one/a.png", "one/b.png", "two/a.png"] and failures == []
    (place / "lq" / "c.png").unlink()
    assert find_faces(str(place))[1] == [Failure("hq/c.png", "lq/ has no image with this name")]


def test_records_name_the_photographs_and_their_faces_are_numbered(place):
    lines = [
        {"key": "one/a", "source": "album/x.jpg", "sha256": ""},
        {"key": "one/b", "source": "album/x.jpg"},
        {"key": "c", "source": "album/y#1.jpg"},
        {"key": "d"},
        {"key": 3, "source": "z"},
        ["no record"],
    ]
    (place / "sources.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"key": "d", "so')
    faces, _ = find_faces(str(place))
    assert sources(faces) == ["album/y#1.jpg", "d.png", "album/x.jpg#1", "album/x.jpg#2", "two/a.png"]
    assert [photograph_of(face) for face in faces][0::2] == ["album/y#1.jpg", "album/x.jpg", "two/a.png"]
    assert sources(of_source(faces, "album/x.jpg")) == ["album/x.jpg#1", "album/x.jpg#2"]
    assert sources(of_source(faces, "album/x.jpg#2")) == ["album/x.jpg#2"]
    assert sources(of_source(faces, "album")) == sources(of_source(faces, "album/")) == [
        "album/y#1.jpg", "album/x.jpg#1", "album/x.jpg#2",
    ]  # fmt: skip
    for only in ("alb", "album/x", "x.jpg", ""):
        with pytest.raises(UserError, match=r"--only: got .*: album/y#1.jpg, d.png, album/x.jpg and 1 more"):
            of_source(faces, only)


def test_a_manifest_names_the_sources(place):
    lines = [{"key": key, "hq": f"hq/{key}.png", "lq": f"lq/{key}.png", "source": "p.jpg"} for key in ("c", "d")]
    (place / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert sources(find_faces(str(place))[0]) == ["p.jpg#1", "p.jpg#2"]


def test_names_that_do_not_fit_into_a_file_are_refused(place, monkeypatch):
    monkeypatch.setattr("ddpm_pairs.bank.faces.MOST_DESCRIPTION_BYTES", 100)
    with pytest.raises(UserError, match="names of 5 faces take 57 bytes; expected at most 50"):
        find_faces(str(place))


def test_the_center_is_read_on_the_hq_grid_and_in_lq_pixels(place):
    faces, _ = find_faces(str(place))
    small, crops = read_face(faces[2], 16), read_face(faces[3], 16)
    hq, lq = (np.array(Image.open(place / side / "one" / "b.png")) for side in ("hq", "lq"))
    assert torch.equal(crops.hq, torch.from_numpy(hq[8:24, 8:24]).permute(2, 0, 1))
    assert torch.equal(crops.native, torch.from_numpy(lq[4:12, 4:12]).permute(2, 0, 1))
    enlarged = resize_bicubic(torch.from_numpy(lq).permute(2, 0, 1)[None].float(), (32, 32))[0, :, 8:24, 8:24]
    assert torch.equal(crops.lq, enlarged.clamp(0, 255).round().byte())
    same = read_face(faces[4], 16)
    assert torch.equal(same.lq, same.hq) and torch.equal(same.native, same.hq)
    assert small.reason == "too small: HQ of 32x32 px and LQ of 8x8 px; expected 7 LQ px or more per side in 16 HQ px"


def test_faces_that_give_no_code(place):
    faces, _ = find_faces(str(place))
    assert read_face(faces[1], 20).source == "d.png"
    assert "HQ of 16x16 px and LQ of 8x8 px; expected HQ of 20 px or more" in read_face(faces[1], 20).reason
    save(np.zeros((32, 20, 3), np.uint8), place / "lq" / "one" / "b.png")
    assert read_face(faces[3], 16).reason == "HQ of 32x32 px and LQ of 20x32 px differ in shape"
    (place / "hq" / "c.png").write_bytes(b"x")
    assert read_face(faces[0], 16).source == "hq/c.png"
