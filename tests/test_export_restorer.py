"""Exports of restorers: other programs and our own loader open them and restore alike."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from spandrel import ModelLoader

from ddpm_pairs.cli import main as cli
from ddpm_pairs.export import export_restorer
from ddpm_pairs.restoration.networks.gpen import GPEN
from ddpm_pairs.restoration.networks.rrdb import RRDBNet
from ddpm_pairs.restoration.weights import load_restorer

LQ = torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(0))


def rrdb(scale=4, gc=32):
    torch.manual_seed(scale)
    return RRDBNet(scale, nf=8, nb=1, gc=gc).eval()


def checkpoint(path, net):
    """As training writes it, the weights as they lie in memory there."""
    net.to(memory_format=torch.channels_last)
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    torch.save({"state_dict": state, "ddpm_pairs": {"kind": "restorer"}}, path)
    return str(path)


@torch.no_grad()
def restored(net, lq=LQ):
    return net(lq)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_spandrel_opens_an_rrdb(tmp_path, suffix, scale, capsys):
    source, out = rrdb(scale), tmp_path / "made" / f"x{suffix}"
    assert cli.main(["export", checkpoint(tmp_path / "last.ckpt", source), str(out)]) == 0
    assert capsys.readouterr().out == f"wrote {out}\n"
    theirs = ModelLoader().load_from_file(out)
    assert (theirs.architecture.id, theirs.scale) == ("ESRGAN", scale)
    expected = restored(source)
    torch.testing.assert_close(restored(theirs.model.eval()), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(restored(theirs), expected.clamp(0, 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(restored(load_restorer(out)), expected, atol=1e-5, rtol=0)


def test_pth_is_as_real_esrgan_expects(tmp_path):
    source = rrdb()
    export_restorer(source, tmp_path / "x.pth")
    content = torch.load(tmp_path / "x.pth", weights_only=True)
    assert list(content) == ["params_ema"]
    assert list(content["params_ema"]) == list(source.state_dict())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_half(tmp_path, suffix):
    source = rrdb()
    path = checkpoint(tmp_path / "last.ckpt", source)
    out = tmp_path / f"x{suffix}"
    assert cli.main(["export", path, str(out), "--half"]) == 0
    stored = load_file(out) if suffix == ".safetensors" else torch.load(out, weights_only=True)["params_ema"]
    assert {value.dtype for value in stored.values()} == {torch.float16}
    torch.testing.assert_close(restored(load_restorer(out)), restored(source), atol=5e-3, rtol=0)
    assert ModelLoader().load_from_file(out).supports_half


def test_metadata_explain_the_file(tmp_path):
    export_restorer(rrdb(2), tmp_path / "x.safetensors")
    with safe_open(tmp_path / "x.safetensors", framework="pt") as file:
        spec = json.loads(file.metadata()["ddpm_pairs"])
    assert spec["kind"] == "restorer"
    assert spec["net"]["class_path"].endswith("RRDBNet")
    assert spec["net"]["init_args"] == {"scale": 2, "nf": 8, "nb": 1, "gc": 32}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_gpen_under_its_released_names(tmp_path, suffix):
    torch.manual_seed(0)
    source, out = GPEN(16, narrow=0.0625).eval(), tmp_path / f"x{suffix}"
    state = {f"net.{name}": value for name, value in source.state_dict().items()}
    torch.save({"state_dict": state, "ddpm_pairs": {"kind": "restorer"}}, tmp_path / "last.ckpt")
    assert cli.main(["export", str(tmp_path / "last.ckpt"), str(out)]) == 0
    stored = load_file(out) if suffix == ".safetensors" else torch.load(out, weights_only=True)
    assert set(stored) == set(source.state_dict())
    assert {"ecd0.0.0.weight", "generator.to_rgb1.conv.modulation.weight", "final_linear.0.bias"} <= set(stored)
    lq = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(restored(load_restorer(out), lq), restored(source, lq), atol=1e-5, rtol=0)
    if suffix == ".safetensors":
        with safe_open(out, framework="pt") as file:
            spec = json.loads(file.metadata()["ddpm_pairs"])
        assert spec["net"]["init_args"]["size"] == 16


def test_weights_of_other_programs_are_exported_too(tmp_path):
    torch.save({"params": rrdb().state_dict()}, tmp_path / "theirs.pth")
    assert cli.main(["export", str(tmp_path / "theirs.pth"), str(tmp_path / "x.safetensors")]) == 0
    assert torch.equal(restored(load_restorer(tmp_path / "x.safetensors")), restored(rrdb()))


def test_growth_that_spandrel_does_not_open_is_told(tmp_path, capsys):
    path = checkpoint(tmp_path / "last.ckpt", rrdb(gc=16))
    assert cli.main(["export", path, str(tmp_path / "x.safetensors")]) == 0
    assert "note: spandrel and chaiNNer open only an RRDBNet with gc 32; this one has gc 16" in capsys.readouterr().out
    with pytest.raises(RuntimeError):
        ModelLoader().load_from_file(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("folder", "folder for a restorer; expected a name ending in"),
        ("x.onnx", "x.onnx; expected a name ending in"),
        ("last.ckpt", "last.ckpt; expected a name ending in"),
    ],
)
def test_out_that_cannot_be_written(tmp_path, capsys, out, said):
    path = checkpoint(tmp_path / "last.ckpt", rrdb())
    before = sorted(tmp_path.iterdir())
    assert cli.main(["export", path, str(tmp_path / out)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_wrong_checkpoint_is_named(tmp_path, capsys):
    torch.save({"state_dict": {"net.x": torch.zeros(1)}, "ddpm_pairs": {"kind": "prior"}}, tmp_path / "x.ckpt")
    assert cli.main(["export", str(tmp_path / "x.ckpt"), str(tmp_path / "x.pth")]) == 2
    assert "looks like a GAN prior" in capsys.readouterr().err
