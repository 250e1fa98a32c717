"""``ddpm-pairs pools``, on a folder of small images."""

import json
import shutil

import pytest
import skimage.data
import torch
from PIL import Image
from planted_noise import noisy_image

from ddpm_pairs.cli.main import main as program
from ddpm_pairs.degradations import by_name
from ddpm_pairs.degradations.learned.files import content_sha256, load_synthesizer
from ddpm_pairs.pools import estimated
from ddpm_pairs.pools import main as command
from ddpm_pairs.pools.kernel_gan import CENTER, CROP, KERNEL_SIDE, NoKernel


def save(image, path):
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)


@pytest.fixture
def lq(tmp_path):
    """Three images with detail above and noise below, and three that cannot be used for one thing or the other."""
    folder = tmp_path / "lq"
    folder.mkdir()
    photo = torch.from_numpy(skimage.data.astronaut()).permute(2, 0, 1)
    for number in range(3):
        image = torch.cat([photo[:, :64, 100 * number : 100 * number + 96], noisy_image(48, 96, number)], dim=1)
        save(image, folder / f"{number}.png")
    save(noisy_image(40, 40, 9), folder / "small.png")
    save(photo[:, 100:170, 200:270] // 2 * 2, folder / "busy.png")
    (folder / "torn.png").write_bytes((folder / "0.png").read_bytes()[:200])
    return folder


@pytest.fixture
def trained(monkeypatch):
    """Replace the training by a Gaussian, except for images that are too small; returns the seeds of its calls."""
    calls = []

    def gaussian(image, iterations, seed):
        if min(image.shape[1:]) < CROP:
            raise NoKernel("too small")
        calls.append(seed)
        line = torch.exp(-((torch.arange(KERNEL_SIDE) - CENTER) ** 2) / 2)
        return line[:, None] * line / line.sum() ** 2

    monkeypatch.setattr(estimated, "estimate_kernel", gaussian)
    return calls


@pytest.fixture
def no_sheet(monkeypatch):
    monkeypatch.setattr(command, "save_pools_sheet", lambda *arguments: None)


def contents(path):
    """What is in a file of pools; safetensors writes the keys of its metadata in any order."""
    net, training = load_synthesizer(path)
    return content_sha256(net), training


def run(lq, out, *words):
    return program(["pools", str(lq), str(out), "--patch", "16", "--workers", "1", *words])


def test_pools_of_a_folder(lq, tmp_path, trained, capsys):
    out = tmp_path / "made" / "pools.safetensors"
    assert run(lq, out) == 0
    said = capsys.readouterr()
    assert "kernels  4 of 6 images" in said.out and f"--model.degradation {out}" in said.out
    assert "skipped small.png: no kernel: too small" in said.err
    assert "skipped busy.png: no flat patch of 16 px for the noise" in said.err
    assert "skipped torn.png: " in said.err
    degradation = by_name(str(out))
    training = degradation.training
    assert sorted(training["kernels_from"]) == ["0.png", "1.png", "2.png", "busy.png"]
    assert sorted(set(training["noise_from"])) == ["0.png", "1.png", "2.png", "small.png"]
    net = degradation.net
    assert net.init_args["kernel_side"] == 46 and len(net.patches) == len(training["noise_from"])
    for patch, source in zip(net.patches, training["noise_from"], strict=True):
        pixels = torch.from_numpy(skimage.io.imread(lq / source)).permute(2, 0, 1)
        windows = pixels.unfold(1, 16, 8).unfold(2, 16, 8).permute(1, 2, 0, 3, 4).flatten(0, 1)
        assert (windows == patch).all(dim=(1, 2, 3)).any()
    with Image.open(out.with_suffix(".png")) as sheet:
        assert sheet.width > 1000
    assert out.stat().st_size < 200_000


def test_the_same_words_give_the_same_file(lq, tmp_path, trained, no_sheet):
    for name in ("a", "b"):
        assert run(lq, tmp_path / f"{name}.safetensors") == 0
    assert contents(tmp_path / "a.safetensors") == contents(tmp_path / "b.safetensors")
    assert run(lq, tmp_path / "c.safetensors", "--seed", "1", "--scale", "2") == 0
    assert by_name(str(tmp_path / "c.safetensors")).scale == 2


def test_an_interrupted_run_goes_on(lq, tmp_path, trained, no_sheet, monkeypatch):
    out, record = tmp_path / "pools.safetensors", tmp_path / "pools.kernels.jsonl"
    gaussian = estimated.estimate_kernel

    def interrupted(image, iterations, seed):
        if len(trained) == 2:
            raise KeyboardInterrupt
        return gaussian(image, iterations, seed)

    monkeypatch.setattr(estimated, "estimate_kernel", interrupted)
    assert run(lq, out) == 130
    lines = record.read_bytes()
    assert not out.exists() and len(trained) == 2
    monkeypatch.setattr(estimated, "estimate_kernel", gaussian)
    record.write_bytes(lines + b'{"source": "1.png", "sha')
    assert run(lq, out) == 0 and len(trained) == len(set(trained)) == 4
    whole = tmp_path / "whole.safetensors"
    assert run(lq, whole) == 0 and contents(whole) == contents(out) and len(trained) == 8
    save(noisy_image(70, 70, 3), lq / "0.png")  # another image under the same name
    assert run(lq, out) == 0 and len(trained) == 9
    assert run(lq, out, "--iterations", "7") == 0 and len(trained) == 13
    assert {json.loads(line)["iterations"] for line in record.open()} == {7, 3000}


@pytest.mark.slow
def test_several_processes_give_the_same_pools(lq, tmp_path):
    """With the real training, cut short."""
    for name, workers in (("one", "1"), ("two", "2")):
        words = ["pools", str(lq), str(tmp_path / f"{name}.safetensors"), "--patch", "16", "--iterations", "300"]
        assert program([*words, "--kernels", "3", "--workers", workers]) == 0
    assert contents(tmp_path / "one.safetensors") == contents(tmp_path / "two.safetensors")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scale", "3"], "--scale: got 3; expected one of 2, 4"),
        (["--patch", "20"], "--patch: got 20; expected a multiple of 8, 16 or more"),
        (["--kernels", "0"], "--kernels: got 0; expected 1 or more"),
        (["--workers", "0"], "--workers: got 0; expected 1 or more"),
        (["--variance", "0"], "--variance: got 0; expected more than 0"),
        (["--mean", "255"], "--mean: got 255; expected 0 to 255"),
        (["--mean", "250"], "has a flat patch of 16 px; raise --variance (now 20), or lower --patch or --mean"),
    ],
)
def test_options_are_checked_before_the_work(lq, tmp_path, trained, capsys, words, message):
    assert run(lq, tmp_path / "x.safetensors", *words) == 2
    assert message in capsys.readouterr().err and trained == []


def test_other_mistakes(lq, tmp_path, trained, capsys):
    for out, message in (
        (tmp_path / "x.png", "expected a name ending in .safetensors"),
        (lq / "x.safetensors", "which is inside LQ_DIR"),
    ):
        assert run(lq, out) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "folder.safetensors").mkdir()
    assert run(lq, tmp_path / "folder.safetensors") == 2
    assert "got the folder" in capsys.readouterr().err
    assert run(tmp_path / "nowhere", tmp_path / "x.safetensors") == 2
    assert "there is no folder" in capsys.readouterr().err
    shutil.copytree(lq, tmp_path / "few")
    for name in ("0.png", "1.png", "2.png", "busy.png"):
        (tmp_path / "few" / name).unlink()
    assert run(tmp_path / "few", tmp_path / "x.safetensors") == 2
    assert "none of 2 images" in capsys.readouterr().err
