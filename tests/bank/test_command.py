"""``ddpm-pairs bank``, with a tiny untrained ReDegNet."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_bank import save_reader, tiny_bank, tiny_redegnet
from tiny_gan import stirred

from ddpm_pairs.bank import main as command
from ddpm_pairs.cli.main import main as program
from ddpm_pairs.degradations import by_name
from ddpm_pairs.degradations.learned.files import content_sha256, load_synthesizer, save_synthesizer
from ddpm_pairs.files import sha256_of
from ddpm_pairs.images.pixels import resize_bicubic
from ddpm_pairs.pairset.sources import find_pairs
from ddpm_pairs.restoration import GPEN

SIDE = 32


@pytest.fixture
def place(tmp_path, photos):
    """A checkpoint for crops of 32 px, six pairs of faces in two folders, and a small HQ image to show."""
    save_reader(tmp_path / "last.ckpt", tiny_redegnet(levels=3), {"steps": 7})
    for number, key in enumerate(("one/a", "one/b", "one/c", "two/a", "two/b", "small")):
        side = SIDE - 2 if key == "small" else SIDE + 4
        hq = photos[number % 4][4 * number :, 4 * number :][:side, :side]
        for kind, pixels in (("hq", hq), ("lq", hq[::2, ::2])):
            path = tmp_path / "faces" / kind / f"{key}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    Image.fromarray(photos[0][:64, :64]).save(tmp_path / "hq.png")
    return tmp_path


@pytest.fixture
def run(place):
    def run(*words, faces="faces", out="made/bank.safetensors"):
        given = ["bank", str(place / "last.ckpt"), str(place / faces), str(place / out)]
        return program([*given, "--hq", str(place / "hq.png"), *map(str, words)])

    return run


@pytest.fixture
def no_images(monkeypatch):
    for name in ("save_bank_sheet", "save_codes_map"):
        monkeypatch.setattr(command, name, lambda *arguments: None)


def code_of(place, key):
    """The code of the center of a face, read by hand."""
    hq, lq = (np.array(Image.open(place / "faces" / kind / f"{key}.png")) for kind in ("hq", "lq"))
    hq, lq = (torch.from_numpy(one).permute(2, 0, 1)[None].float() for one in (hq, lq))
    lq = resize_bicubic(lq, (SIDE + 4, SIDE + 4)).clamp(0, 255).round()
    with torch.no_grad():
        return tiny_redegnet(levels=3).deg(hq[..., 2:34, 2:34] / 255, lq[..., 2:34, 2:34] / 255)[0]


def test_a_bank_of_a_folder_of_pairs(place, run, capsys):
    assert run() == 0
    out, said = place / "made" / "bank.safetensors", capsys.readouterr()
    assert "codes    5 from 6 faces, of 5 sources" in said.out and f"--model.degradation {out}" in said.out
    assert "skipped small.png: too small: HQ of 30x30 px and LQ of 15x15 px" in said.err
    bank, training = load_synthesizer(out)
    assert bank.sources == ["one/a.png", "one/b.png", "one/c.png", "two/a.png", "two/b.png"]
    assert (bank.scale, bank.noise, bank.size) == (4, False, SIDE)
    for code, source in zip(bank.codes, bank.sources, strict=True):
        torch.testing.assert_close(code, code_of(place, source.removesuffix(".png")), rtol=1e-4, atol=1e-5)
    for name, value in tiny_redegnet(levels=3).syn.state_dict().items():
        assert torch.equal(bank.state_dict()[f"syn.{name}"], value)
    content = training.pop("content")
    assert content["faces"] == 5 and content["degradations"] == 8 and 0 <= content["same_face"] <= 1
    assert f"same face {content['same_face']:.0%} (chance" in said.out
    assert training == {
        "reader": {"sha256": sha256_of(place / "last.ckpt"), "training": {"steps": 7}},
        "faces_dir": "faces", "faces": 6, "restorer": None, "only": None, "seed": 0,
    }  # fmt: skip
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "bank.codes.png", "bank.png", "bank.safetensors",
    ]  # fmt: skip
    with Image.open(out.with_suffix(".png")) as sheet:
        assert sheet.size[0] > 1000 and sheet.size[1] > 3 * 256  # HQ and five faces, two in a row


def test_the_sheet_shows_hq_rendered_with_the_codes(place, run, monkeypatch):
    shown = []
    monkeypatch.setattr("ddpm_pairs.bank.sheet.save_sheet", lambda path, entries, *words: shown.extend(entries))
    assert run() == 0
    degradation = by_name(str(place / "made" / "bank.safetensors"))
    hq = torch.from_numpy(np.array(Image.open(place / "hq.png"))).permute(2, 0, 1)[None].float() / 255
    assert np.array_equal(shown[0].pictures[1], np.array(Image.open(place / "hq.png")))
    for code, entry in enumerate(shown[1:]):
        source = degradation.net.sources[code]
        lq = degradation.apply(hq, [{"code": code, "resampling": "bicubic"}])[0].permute(1, 2, 0).numpy()
        assert np.array_equal(np.array(entry.pictures[1]), (lq * 255).round().astype(np.uint8))
        face = np.array(Image.open(place / "faces" / "lq" / source))
        assert np.array_equal(np.array(entry.pictures[0]), face[1:17, 1:17]) and entry.title == source
        assert entry.text.startswith("detail ") and entry.text.endswith("/255")
    assert len(shown) == 6


def test_only_one_photograph(place, run, no_images, capsys):
    assert run("--only", "two", "--noise", "--scale", "1") == 0
    bank, training = load_synthesizer(place / "made" / "bank.safetensors")
    assert bank.sources == ["two/a.png", "two/b.png"] and training["only"] == "two" and training["faces"] == 2
    assert bank.noise and bank.scale == 1 and "--model.scale 1" in capsys.readouterr().out
    assert run("--only", "three") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.endswith("--only: got 'three'; expected a source of FACES: one/a.png, one/b.png, one/c.png and 3 more")


def test_lq_faces_are_restored_first(place, run, no_images, capsys):
    torch.manual_seed(0)
    torch.save(stirred(GPEN(SIDE, 1, 1 / 64)).state_dict(), place / "gpen.pth")
    Image.new("RGB", (40, 30)).save(place / "faces" / "lq" / "oblong.png")
    words = ["--restorer", place / "gpen.pth", "--only", "one"]
    assert run(*words, faces="faces/lq") == 0
    said, bank = capsys.readouterr(), load_synthesizer(place / "made" / "bank.safetensors")
    assert bank[0].sources == ["one/a.png", "one/b.png", "one/c.png"] and bank[1]["restorer"] == "gpen.pth"
    assert "skipped oblong.png: " in said.err and "codes    3 from 3 faces" in said.out
    assert find_pairs(str(place / "made" / "bank.faces"), "x").pairs[0].key == "one/a"
    assert run(faces="faces/lq") == 2
    assert "or a folder of LQ faces with --restorer" in capsys.readouterr().err
    assert run("--restorer", place / "last.ckpt", faces="faces/lq") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_one_face(place, run, capsys):
    assert run("--only", "two/a.png") == 0
    assert "content  not measured: it takes two faces" in capsys.readouterr().out
    assert load_synthesizer(place / "made" / "bank.safetensors")[1]["content"] is None


def test_the_same_words_give_the_same_bank(place, run, no_images):
    found = []
    for name in ("a", "b"):
        assert run("--seed", "1", out=f"{name}.safetensors") == 0
        bank, training = load_synthesizer(place / f"{name}.safetensors")
        found.append((content_sha256(bank), training))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("words", "places", "message"),
    [
        (["--scale", "3"], {}, "--scale: got 3; expected one of 1, 2, 4"),
        (["--hq", "none.png"], {}, "--hq: got none.png, which is not a file"),
        (["--hq", "{place}/faces/hq/tiny.png"], {}, "--hq: got 6x6 px; expected 8 px or more per side"),
        (["--hq", "{place}/last.ckpt"], {}, "error: "),
        ([], {"out": "x.png"}, "expected a name ending in .safetensors"),
        ([], {"out": "faces/x.safetensors"}, "which is inside FACES"),
        ([], {"out": "folder.safetensors"}, "got the folder"),
        ([], {"faces": "nowhere"}, "FACES: "),
        ([], {"faces": "faces/hq"}, "is not a folder of pairs"),
    ],
)
def test_mistakes_end_before_the_work(place, run, capsys, monkeypatch, words, places, message):
    monkeypatch.setattr(command, "_read", None)
    (place / "folder.safetensors").mkdir()
    Image.new("RGB", (6, 6)).save(place / "faces" / "hq" / "tiny.png")
    assert run(*(word.format(place=place) for word in words), **places) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (place / "made").exists()


def test_other_files_are_no_readers(place, capsys):
    save_synthesizer(tiny_bank(), place / "bank.safetensors", {})
    for name in ("bank.safetensors", "none.ckpt"):
        assert program(["bank", str(place / name), str(place / "faces"), str(place / "x.safetensors")]) == 2
        assert "expected a checkpoint of `lightning fit --config redegnet.yaml`" in capsys.readouterr().err


def test_no_face_gives_a_code(place, run, capsys):
    assert run("--only", "small.png") == 2
    assert "FACES: none of 1 faces gave a code (small.png: too small: HQ of 30x30 px" in capsys.readouterr().err


def test_pairs_are_made_with_the_bank(place, run, no_images):
    assert run("--noise") == 0
    words = ["predict", "--config", "pairs_natural.yaml", "--model.degradation", place / "made" / "bank.safetensors"]
    words += ["--model.t_max", "0", "--data.hq_dir", place / "faces" / "hq" / "one", "--output_dir", place / "pairs"]
    words += ["--model.threads", "1", "--data.num_workers", "0", "--trainer.accelerator", "cpu"]
    Image.open(place / "hq.png").resize((80, 72)).save(place / "faces" / "hq" / "one" / "large.png")
    assert program([*map(str, words), "--trainer.enable_progress_bar", "false"]) == 0
    (line,) = [json.loads(line) for line in (place / "pairs" / "manifest.jsonl").open()]
    drawn = line["degradation"]["parameters"]
    assert (line["key"], line["lq_size"]) == ("large", [20, 18])
    assert drawn["source"] == load_synthesizer(place / "made" / "bank.safetensors")[0].sources[drawn["code"]]
    assert program(["remake", str(place / "pairs"), "large"]) == 0
