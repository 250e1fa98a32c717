"""Fitting a start to LQ images made by a known walk and camera."""

import shutil
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny_ddpm import save_ckpt, tiny_denoiser

from ddpm_pairs.cli.main import main as program
from ddpm_pairs.degradations import BandGain
from ddpm_pairs.images.pixels import resize_bicubic
from ddpm_pairs.synthesis import PairGenerator
from ddpm_pairs.synthesis.calibrate import calibrate, main

CAMERA = BandGain([1.0, 1.05, 1.0, 0.85, 0.7, 0.55, 0.4, 0.3], [1.0, 0.9, 0.7, 0.5, 0.35, 0.3, 0.3, 0.3])
WALK = BandGain([1.0, 1.0, 1.0, 0.9, 0.9, 0.8, 0.8, 0.7], [1.0, 0.95, 0.9, 0.85, 0.8, 0.8, 0.8, 0.8])
NOISE = 2.0  # 8-bit units


def texture(generator):
    """Return (3, 512, 512) in [0, 1] with gray and color detail at every frequency of LQ."""
    field = torch.randn(1, 6, 128, 128, generator=generator)
    field = torch.nn.functional.interpolate(field, size=(512, 512), mode="bicubic")[0]
    return (0.5 + 0.08 * field[:3] + 0.1 * field[3]).clamp(0, 1)


def save(picture, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((picture * 255).round().byte().permute(1, 2, 0).numpy()).save(path)


def walked(lq, generator):
    """Apply the known walk to LQ (3, h, w)."""
    noise = torch.randn(lq.shape, generator=generator) * NOISE / 255
    return (WALK.apply(lq[None], [{}], lq.shape[-2:])[0] + noise).clamp(0, 1)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder of real LQ images, and HQ images of other scenes of the same kind."""
    root, generator = tmp_path_factory.mktemp("world"), torch.Generator().manual_seed(0)
    for number in range(8):
        save(texture(generator), root / "hq" / f"{number}.png")
        seen = CAMERA.apply(texture(generator)[None], [{}], (128, 128))[0]
        save(walked(seen, generator), root / "lq" / f"{number}.png")
    return root


def make(world, out, predict, start="bicubic", t_max=9, scale=4):
    denoiser = tiny_denoiser()
    generator = PairGenerator(start, scale, t_min=min(1, t_max), t_max=t_max, slots=4, threads=1, num_steps=1)
    generator.add_walk(denoiser)
    predict(generator, world / "hq", out, save_ckpt(denoiser, out.with_suffix(".ckpt")))
    return out


@pytest.fixture(scope="module")
def pairs(world, tmp_path_factory, predict):
    """Pairs whose LQ images are made by the known walk."""
    return walk_as_known(make(world, tmp_path_factory.mktemp("made") / "pairs", predict))


def walk_as_known(folder):
    generator = torch.Generator().manual_seed(1)
    for path in sorted((folder / "lq").iterdir()):
        hq = torch.from_numpy(np.array(Image.open(folder / "hq" / path.name))).permute(2, 0, 1).float() / 255
        save(walked(resize_bicubic(hq[None], (128, 128))[0], generator), path)
    return folder


def test_finds_the_camera_the_walk_and_its_noise(world, pairs):
    found = calibrate(pairs, world / "lq")
    assert (found.scale, found.failures) == (4, [])
    for row, gains in enumerate((WALK.luma, WALK.chroma)):
        np.testing.assert_allclose(found.transfer[row], gains, atol=0.04)
    for row, gains in enumerate((CAMERA.luma, CAMERA.chroma)):
        np.testing.assert_allclose(found.gains()[row], gains, atol=0.08)
    # Independent noise in R, G, and B has 0.299^2 + 0.587^2 + 0.114^2 of its power in Y; 8 bits add 1/12. Lower bands
    # contain a hundred times as much signal, and a transfer that varies within a band counts as noise.
    window = torch.hann_window(32, dtype=torch.float64)
    noise = found.noise[0] * 255**2 / window.square().sum() ** 2
    np.testing.assert_allclose(noise[5:], 0.447 * (NOISE**2 + 1 / 12), rtol=0.15)


def test_finds_them_on_the_hq_grid(world, tmp_path, predict):
    for path in (world / "hq").iterdir():
        (tmp_path / "hq").mkdir(exist_ok=True)
        Image.open(path).resize((128, 128), Image.Resampling.BICUBIC).save(tmp_path / "hq" / path.name)
    found = calibrate(walk_as_known(make(tmp_path, tmp_path / "pairs", predict, scale=1)), world / "lq")
    assert (found.scale, found.failures) == (1, [])
    for row, gains in enumerate((CAMERA.luma, CAMERA.chroma)):
        np.testing.assert_allclose(found.gains()[row], gains, atol=0.08)


def test_contrast_of_the_sets_is_no_blur(world, pairs, tmp_path):
    for path in (world / "lq").iterdir():
        picture = np.array(Image.open(path)).astype(float)
        flat = Image.fromarray((128 + 0.5 * (picture - 128)).round().astype(np.uint8))
        (tmp_path / "flat").mkdir(exist_ok=True)
        flat.save(tmp_path / "flat" / path.name)
    found = calibrate(pairs, tmp_path / "flat")
    np.testing.assert_allclose(found.gains()[0, :4], CAMERA.luma[:4], atol=0.1)


@pytest.mark.slow
def test_a_config_comes_out_that_predict_takes(world, pairs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert program(["calibrate", str(pairs), str(world / "lq"), "start.yaml"]) == 0
    out = capsys.readouterr().out
    assert "up to 0.0625" in out and "--config start.yaml" in out
    gains = calibrate(pairs, world / "lq").gains()
    operation = yaml.safe_load((tmp_path / "start.yaml").read_text())["model"]["degradation"]["init_args"]["operations"]
    np.testing.assert_allclose(operation[0]["init_args"]["luma"], gains[0], atol=1e-3)
    words = f"predict --config pairs_natural.yaml --config start.yaml --data.hq_dir {world}/hq --model.t_max 0"
    assert program([*words.split(), "--output_dir", "again"]) == 0
    hq = torch.from_numpy(np.array(Image.open("again/hq/3.png"))).permute(2, 0, 1)[None].float() / 255
    expected = BandGain(**operation[0]["init_args"]).apply(hq, [{}], (128, 128))
    lq = torch.from_numpy(np.array(Image.open("again/lq/3.png"))).permute(2, 0, 1)[None].float()
    torch.testing.assert_close(lq, (expected * 255).round(), rtol=0, atol=1)


def test_pictures_that_cannot_be_used_are_told(world, pairs, tmp_path, capsys):
    shutil.copytree(world / "lq", tmp_path / "lq")
    Image.new("RGB", (31, 64)).save(tmp_path / "lq" / "narrow.png")
    (tmp_path / "lq" / "torn.png").write_bytes((world / "lq" / "0.png").read_bytes()[:500])
    assert main(Namespace(pairs=pairs, lq_dir=tmp_path / "lq", out=tmp_path / "start.yaml")) == 0
    told = capsys.readouterr().err
    assert "skipped narrow.png: 31x64 px, smaller than a patch of 32 px" in told
    assert "skipped torn.png: " in told
    shutil.copytree(pairs, tmp_path / "pairs")
    (tmp_path / "pairs" / "lq" / "3.png").write_bytes((pairs / "lq" / "3.png").read_bytes()[:500])
    assert [failure.source for failure in calibrate(tmp_path / "pairs", world / "lq").failures] == ["lq/3.png"]
    expected = calibrate(pairs, world / "lq").real
    torch.testing.assert_close(calibrate(pairs, tmp_path / "lq").real, expected)


@pytest.mark.parametrize(
    ("start", "t_max", "told"),
    [
        ("classical", 9, "was made from classical with a DDPM; expected"),
        ("bicubic", 0, "was made by bicubic alone; expected"),
    ],
)
def test_other_pairs(world, tmp_path, predict, start, t_max, told):
    (tmp_path / "hq").mkdir()
    shutil.copy(world / "hq" / "0.png", tmp_path / "hq")
    folder = make(tmp_path, tmp_path / "pairs", predict, start, t_max)
    with pytest.raises(ValueError, match=told):
        calibrate(folder, world / "lq")


def test_what_is_no_pairs_folder_no_pictures_or_no_name(world, pairs, tmp_path):
    with pytest.raises(ValueError, match=r"contains no run\.yaml"):
        calibrate(world, world / "lq")
    (tmp_path / "small").mkdir()
    Image.new("RGB", (31, 64)).save(tmp_path / "small" / "a.png")
    with pytest.raises(ValueError, match="contains no LQ image of 32 px or more per side"):
        calibrate(pairs, tmp_path / "small")
    with pytest.raises(ValueError, match=r"OUT: got start\.txt; expected a name ending in \.yaml"):
        main(Namespace(pairs=pairs, lq_dir=world / "lq", out=Path("start.txt")))
