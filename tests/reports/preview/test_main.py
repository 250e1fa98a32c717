"""``ddpm-pairs preview`` through the real command line."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageDraw
from tiny_learned import small_pdm

from ddpm_pairs.cli.main import main
from ddpm_pairs.data.high_quality import Work
from ddpm_pairs.degradations.learned.files import save_synthesizer
from ddpm_pairs.reports.contact_sheet import GAP, MARGIN, TILE, font_of
from ddpm_pairs.reports.preview import main as preview
from ddpm_pairs.reports.preview.sheet import Row, draw_preview
from ddpm_pairs.synthesis import PairGenerator

OWN = """
import torch
from torch.nn import functional as F


class Mist:
    name = "mist"

    def __init__(self, scale: int = 4, most: float = 0.5):
        self.scale, self.most = scale, most

    def draw(self, generator):
        words = {f"word_number_{n}": n for n in range(40)}
        return {"mist": float(torch.rand((), generator=generator)) * self.most, "a" * 90: 1.5, **words}

    def apply(self, hq, parameters):
        mist = torch.tensor([one["mist"] for one in parameters]).view(-1, 1, 1, 1)
        return ((F.avg_pool2d(hq, self.scale) * (1 - mist) + mist) * 255).round() / 255


class Needy(Mist):
    def __init__(self, needed, scale: int = 4):
        super().__init__(scale)


class Nothing:
    pass
"""


@pytest.fixture(autouse=True)
def put_back():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def place(tmp_path, photos, monkeypatch):
    """A working directory with a folder of HQ pictures and a module of one's own."""
    (tmp_path / "hq").mkdir()
    for number, photo in enumerate(photos):
        Image.fromarray(photo).save(tmp_path / "hq" / f"{number}.png")
    (tmp_path / "own_preview.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_preview", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(preview, "HISTOGRAM_DRAWS", 100)
    return tmp_path


def run(*words):
    return main(["preview", "--data.hq_dir", "hq", "--output_dir", "out", *words])


def tile_at(sheet, column, size, top):
    left = MARGIN + column * (TILE + GAP)
    return np.asarray(sheet)[top : top + size[1], left : left + size[0]]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classical", "bsrgan", "real_esrgan"])
def test_both_sheets_are_written_and_named(place, capsys, name):
    assert run("--degradation", name, "--pictures", "2", "--draws", "3") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"draws       out/{name}_draws.png",
        f"parameters  out/{name}_parameters.png",
    ]
    assert sorted(path.name for path in (place / "out").iterdir()) == [f"{name}_draws.png", f"{name}_parameters.png"]
    with Image.open(place / "out" / f"{name}_draws.png") as sheet:
        assert sheet.width == 2 * MARGIN + 4 * (TILE + GAP) - GAP
    with Image.open(place / "out" / f"{name}_parameters.png") as sheet:
        assert sheet.width >= 900 and len(np.unique(np.asarray(sheet))) > 10


def test_nothing_is_random_in_bicubic(place, capsys):
    assert run("--degradation", "bicubic") == 0
    assert "parameters  none: nothing is random in bicubic" in capsys.readouterr().out
    assert [path.name for path in (place / "out").iterdir()] == ["bicubic_draws.png"]
    with Image.open("out/bicubic_draws.png") as sheet:
        assert sheet.width == 2 * MARGIN + 2 * (TILE + GAP) - GAP


def test_all_draws_of_a_degradation_whose_only_parameters_are_seeds_are_shown(place, capsys):
    save_synthesizer(small_pdm(), Path("pdm.safetensors"), {})
    assert run("--degradation", "pdm.safetensors", "--draws", "3") == 0
    assert "parameters  none but seeds: all random values of pdm come from them" in capsys.readouterr().out
    with Image.open("out/pdm_draws.png") as sheet:
        assert sheet.width == 2 * MARGIN + 4 * (TILE + GAP) - GAP


def test_the_first_draw_is_the_pair_that_predict_makes(place, photos):
    assert run("--degradation", "real_esrgan", "--seed", "5", "--pictures", "1") == 0
    generator = PairGenerator("real_esrgan", t_max=0, seed=5)
    hq = torch.tensor(photos[0]).permute(2, 0, 1)
    pairs = [next(iter(generator.make([generator.draw(Work(key, "0.png", sha256="", hq=hq))]))) for key in ("0", "0~1")]
    with Image.open("out/real_esrgan_draws.png") as sheet:
        top = MARGIN + 30
        for column, pair in enumerate(pairs, start=1):
            lq = pair.lq.permute(1, 2, 0).numpy().repeat(8, axis=0).repeat(8, axis=1)
            assert np.array_equal(tile_at(sheet, column, (256, 192), top), lq)


@pytest.mark.slow
def test_captions_stay_below_their_pictures(place, monkeypatch):
    """No line is wider than a picture or runs into the next row, however much was drawn."""
    written = []
    original = ImageDraw.ImageDraw.text

    def note(self, corner, text, **options):
        written.append((corner, text, options["font"]))
        return original(self, corner, text, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", note)
    assert run("--degradation", "own_preview.Mist", "--pictures", "2", "--draws", "2") == 0
    boxes = []
    for (left, top), text, font in written[1:]:
        assert font.getlength(text) <= TILE
        boxes.append((left, top, top + font.getbbox(text)[3]))
    for column in range(3):
        lines = sorted((top, bottom) for left, top, bottom in boxes if left == MARGIN + column * (TILE + GAP))
        assert all(first[1] <= second[0] + 1 for first, second in zip(lines, lines[1:], strict=False))
        assert len(lines) in (6, 30)  # title and facts, or title and the most lines, for two pictures
    with Image.open("out/mist_draws.png") as sheet:
        assert max(bottom for _, _, bottom in boxes) < sheet.height
    first_row = [bottom for left, top, bottom in boxes if top < sheet.height / 2]
    second_picture = np.asarray(Image.open("hq/3.png").convert("RGB"))
    assert max(first_row) < sheet.height / 2 + 60 and second_picture.shape == (96, 128, 3)


@pytest.mark.slow
def test_own_class_and_configs(place, capsys):
    assert run("--degradation", "own_preview.Mist", "--scale", "2", "--pictures", "1") == 0
    assert run("--degradation", "pairs_own_chain.yaml", "--pictures", "1") == 0
    assert (place / "out" / "pairs_own_chain_parameters.png").exists()
    assert run("--degradation", "pairs.yaml", "--pictures", "1") == 0
    with Image.open("out/pairs_draws.png") as sheet:
        assert sheet.height > 2 * MARGIN + 192


@pytest.mark.slow
def test_several_side_by_side(place, capsys):
    """A class of one's own, a chain in YAML, what `calibrate` writes, and a name."""
    gains = {"class_path": "ddpm_pairs.degradations.BandGain", "init_args": {"luma": [1.0, 0.5], "chroma": [1.0, 0.2]}}
    chain = {"class_path": "ddpm_pairs.degradations.Chain", "init_args": {"scale": 4, "operations": [gains]}}
    (place / "start.yaml").write_text(yaml.safe_dump({"model": {"degradation": chain}}))
    words = ["own_preview.Mist", "pairs_own_chain.yaml", "start.yaml", "bsrgan"]
    assert run("--degradation", *words, "--pictures", "2", "--draws", "2") == 0
    names = ["mist", "pairs_own_chain", "start", "bsrgan"]
    assert {path.name for path in (place / "out").glob("*_draws.png")} == {f"{name}_draws.png" for name in names}
    assert "all         out/side_by_side.png" in capsys.readouterr().out
    with Image.open("out/side_by_side.png") as sheet, Image.open("out/bsrgan_draws.png") as alone:
        assert sheet.width == 2 * MARGIN + 5 * (TILE + GAP) - GAP
        top, size = MARGIN + 30, (256, 192)
        assert np.array_equal(tile_at(sheet, 4, size, top), tile_at(alone, 1, size, top))


def test_what_cannot_be_used_is_said(place, capsys):
    (place / "hq" / "a.png").write_text("no picture")
    Image.new("RGB", (40, 40)).save(place / "hq" / "b.png")
    assert run("--degradation", "classical", "--draws", "1") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("skipped     a.png: ") and said[1] == (
        "skipped     b.png: too small: got 40x40 px; expected 64 px or more per side at scale 4"
    )


def test_of_large_pictures_the_centre_is_taken(place, monkeypatch):
    monkeypatch.setattr(preview, "LARGEST_SIDE", 80)
    generator = PairGenerator("bicubic", t_max=0, threads=1)
    (picture,) = [one for one in preview.find_pictures(place / "hq", "x")[0] if one.key == "0"]
    row = preview._row(picture, generator, 1)
    whole = torch.tensor(np.asarray(Image.open(picture.path))).permute(2, 0, 1)
    assert torch.equal(row.pairs[0].hq, whole[:, 8:88, 24:104])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--degradation", "blurr"], "degradation: got 'blurr'"),
        (["--degradation", "own_preview.Fog"], "own_preview.Fog cannot be imported"),
        (["--degradation", "nowhere.Fog"], "nowhere.Fog cannot be imported"),
        (["--degradation", "own_preview.Nothing"], "own_preview.Nothing is not a degradation"),
        (["--degradation", "own_preview.Needy"], "'needed'); set its arguments in a config"),
        (["--degradation", "nowhere.yaml"], "nowhere.yaml does not exist"),
        (["--degradation", "ddpm.yaml"], "ddpm.yaml describes no degradation"),
        (["--degradation", "text.yaml"], "text.yaml describes no degradation"),
        (["--degradation", "bicubic", "--scale", "1"], "bicubic at scale 1"),
        (["--degradation", "bsrgan", "--scale", "3"], "bsrgan scale: got 3"),
        (["--degradation", "bsrgan", "--draws", "0"], "--draws: got 0; expected 1 or more"),
        (["--degradation", "bsrgan", "--pictures", "0"], "--pictures: got 0"),
        (["--degradation", "bsrgan", "--data.hq_dir", "nowhere"], "--data.hq_dir: there is no folder 'nowhere'"),
        (["--degradation", "bsrgan", "--output_dir", "own_preview.py"], "--output_dir: got the file own_preview.py"),
        (["--degradation", "bsrgan", "--output_dir", "hq/out"], "inside --data.hq_dir"),
        (["--degradation", "bsrgan", "--data.hq_dir", "tiny"], "none of the images tried in tiny"),
    ],
)
def test_errors_are_one_line(place, capsys, words, said):
    (place / "text.yaml").write_text("words")
    (place / "tiny").mkdir()
    Image.new("RGB", (8, 8)).save(place / "tiny" / "a.png")
    before = sorted(place.rglob("*.png"))
    assert run(*words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ddpm-pairs: error: ") and said in line
    assert sorted(place.rglob("*.png")) == before


def test_row_without_draws_beyond_hq_is_as_tall_as_its_facts(place):
    generator = PairGenerator("bicubic", t_max=0, threads=1)
    (picture, *_) = preview.find_pictures(place / "hq", "x")[0]
    sheet = draw_preview([preview._row(picture, generator, 1)] * 2, "bicubic")
    row_height = (sheet.height - (MARGIN + 30) - MARGIN) // 2
    assert row_height >= 192 + 24 + 2 * font_of(13).getbbox("LQ")[3]
    assert isinstance(preview._row(picture, generator, 1), Row)
