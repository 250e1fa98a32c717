"""``lightning predict`` with a restorer: a folder of LQ pictures in, restored pictures out."""

import json
import re
from hashlib import sha256

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from ddpm_pairs.cli.main import main
from ddpm_pairs.restoration import GPEN, RRDBNet

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")


@pytest.fixture
def place(tmp_path, monkeypatch, photos):
    """An opaque picture, one with alpha in a folder of its own, and three that cannot be restored."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lq" / "sub").mkdir(parents=True)
    Image.fromarray(photos[0][:21, :30]).save("lq/a.png")
    alpha = np.linspace(0, 255, 24 * 18).round().astype(np.uint8).reshape(24, 18)
    Image.fromarray(np.dstack([photos[1][:24, :18], alpha])).save("lq/sub/b.png")
    Image.fromarray(np.full((20, 20), 30000, dtype=np.uint16)).save("lq/deep.png")
    (tmp_path / "lq" / "text.png").write_text("no picture")
    (tmp_path / "lq" / "notes.txt").write_text("no picture")
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)


def save_rrdb(path, seed=0):
    torch.manual_seed(seed)
    net = RRDBNet(2, nf=8, nb=1, gc=8)
    torch.save({"params_ema": net.state_dict()}, path)
    return net.eval()


def restore(weights, output="out", *options):
    words = ["predict", "--config", "rrdb_small.yaml", "--ckpt_path", weights, "--data.lq_dir", "lq"]
    words += ["--data.num_workers", "0", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    return main([*words, "--output_dir", output, *options])


def failures(folder):
    return {line["source"]: line["reason"] for line in map(json.loads, (folder / "failures.jsonl").open())}


def pixels(path):
    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def expected(net, lq):
    height, width = lq.shape[1:]
    with torch.no_grad():
        restored = net(F.pad(lq[None].float() / 255, (0, width % 2, 0, height % 2), mode="reflect"))[0]
    return (restored[:, : 2 * height, : 2 * width].clamp(0, 1) * 255).round().to(torch.uint8)


def test_pictures_are_restored_and_what_cannot_be_is_told(place, capsys):
    net = save_rrdb("x2.pth")
    assert restore("x2.pth") == 0, capsys.readouterr().err
    out = place / "out"
    found = sorted(path.relative_to(out / "restored").as_posix() for path in (out / "restored").rglob("*.png"))
    assert found == ["a.png", "sub/b.png"]
    # a last bit may differ between a picture alone and this machine's other layout in memory
    a = pixels(out / "restored" / "a.png").int() - expected(net, pixels("lq/a.png")).int()
    assert a.abs().max() <= 1
    b, source = pixels(out / "restored" / "sub" / "b.png"), pixels("lq/sub/b.png")
    assert b.shape == (4, 48, 36)
    assert (b[:3].int() - expected(net, source[:3]).int()).abs().max() <= 1
    enlarged = F.interpolate(source[None, 3:].float(), scale_factor=2, mode="bicubic")[0, 0].clamp(0, 255)
    assert (b[3].float() - enlarged).abs().max() <= 0.5
    told = failures(out)
    assert set(told) == {"deep.png", "notes.txt", "text.png"}
    assert "16" in told["deep.png"]
    assert sorted(path.name for path in out.iterdir()) == ["failures.jsonl", "restored", "run.yaml"]
    assert "restored now        2" in capsys.readouterr().out


def test_it_goes_on_with_what_is_missing(place, capsys):
    save_rrdb("x2.pth")
    assert restore("x2.pth") == 0
    first = (place / "out/restored/a.png").read_bytes()
    (place / "out/restored/a.png").unlink()
    Image.new("RGB", (3, 3)).save(place / "out/restored/sub/b.png")
    stays = (place / "out/restored/sub/b.png").read_bytes()
    capsys.readouterr()
    assert restore("x2.pth") == 0
    assert (place / "out/restored/a.png").read_bytes() == first
    assert (place / "out/restored/sub/b.png").read_bytes() == stays
    assert "restored now        1" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:.*cannot be read")
@pytest.mark.parametrize(("name", "content"), [("run.yaml", b""), ("run.yaml", b"- 1"), ("restored/a.png", b"")])
def test_torn_leftovers_are_made_again(place, name, content):
    save_rrdb("x2.pth")
    assert restore("x2.pth") == 0
    whole = {path.name: path.read_bytes() for path in (place / "out").rglob("*") if path.is_file()}
    (place / "out" / name).write_bytes(content)
    (place / "out" / "failures.rank0.jsonl").write_bytes(b'{"source": ["x"], "rea\n[[[')
    if name == "run.yaml":  # nobody knows what made these pixels
        Image.new("RGB", (60, 42)).save(place / "out" / "restored" / "a.png")
    assert restore("x2.pth") == 0
    assert {path.name: path.read_bytes() for path in (place / "out").rglob("*") if path.is_file()} == whole


def test_a_folder_of_other_weights_or_tiles_is_refused(place, capsys):
    save_rrdb("x2.pth")
    save_rrdb("other.pth", seed=1)
    assert restore("x2.pth") == 0
    capsys.readouterr()
    assert restore("other.pth") == 2
    assert restore("x2.pth", "out", "--model.tile", "80") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    hashes = [sha256((place / name).read_bytes()).hexdigest() for name in ("x2.pth", "other.pth")]
    assert "out contains restored images made with different settings" in lines[0]
    assert f"(checkpoint_sha256 {hashes[0]} -> {hashes[1]})" in lines[0] and re.search(r"\(tile \d+ -> 80\)", lines[1])


def test_the_folder_of_lq_pictures_is_no_output(place, capsys):
    save_rrdb("x2.pth")
    assert restore("x2.pth", "lq") == 2
    assert "is the folder of the LQ images" in capsys.readouterr().err
    assert not (place / "lq" / "run.yaml").exists()


def test_without_pictures_or_weights(place, capsys):
    save_rrdb("x2.pth")
    words = ["predict", "--config", "rrdb_small.yaml", "--trainer.accelerator", "cpu"]
    assert main([*words, "--data.lq_dir", "lq"]) == 2
    assert "--ckpt_path is missing" in capsys.readouterr().err
    assert main([*words, "--data.pairs_dir", "lq", "--ckpt_path", "x2.pth"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_gpen_takes_square_faces_of_any_size(place, photos, capsys):
    torch.manual_seed(0)
    net = GPEN(32, 1, 1 / 64)
    torch.save({"g_ema": net.state_dict()}, "gpen.pth")
    Image.fromarray(photos[2][:48, :48]).save("lq/square.png")
    assert restore("gpen.pth") == 0, capsys.readouterr().err
    assert [path.name for path in (place / "out/restored").rglob("*.png")] == ["square.png"]
    face = F.interpolate(pixels("lq/square.png")[None].float() / 255, size=(32, 32), mode="bicubic", antialias=True)
    with torch.no_grad():
        wanted = net.eval()(face.clamp(0, 1))[0].clamp(0, 1) * 255
    assert (pixels("out/restored/square.png") - wanted.round()).abs().max() <= 1
    assert "square, aligned" in failures(place / "out")["a.png"]
