"""Restorers from files of every program that writes them, and sentences for what is none."""

import json

import pytest
import torch
from safetensors.torch import save_file
from spandrel import ModelLoader
from torch import nn

from ddpm_pairs.restoration.networks.gpen import GPEN
from ddpm_pairs.restoration.networks.rrdb import RRDBNet
from ddpm_pairs.restoration.networks.unet_discriminator import UNetDiscriminator
from ddpm_pairs.restoration.weights import load_restorer

SMALL = {"nf": 16, "nb": 2, "gc": 32}


def small(scale=4, **options):
    torch.manual_seed(scale)
    return RRDBNet(scale, **{**SMALL, **options})


def new_esrgan(state):
    """Names as BSRGAN's and KAIR's files have them."""
    renamed = {}
    for name, value in state.items():
        for official, earlier in (
            ("conv_body", "trunk_conv"),
            ("body.", "RRDB_trunk."),
            (".rdb", ".RDB"),
            ("conv_up", "upconv"),
            ("conv_hr", "HRconv"),
        ):
            name = name.replace(official, earlier)
        renamed[name] = value
    return renamed


def old_esrgan(state, nb=2):
    """Names as the files of the first ESRGAN have them."""
    renamed = {}
    for name, value in state.items():
        layer, kind = name.rsplit(".", 1)
        if layer.startswith("body."):
            _, block, dense, conv = layer.split(".")
            renamed[f"model.1.sub.{block}.{dense.upper()}.{conv}.0.{kind}"] = value
        else:
            number = {"conv_first": 0, "conv_body": f"1.sub.{nb}", "conv_up1": 3, "conv_up2": 6, "conv_hr": 8}
            renamed[f"model.{number.get(layer, 10)}.{kind}"] = value
    return renamed


def same_network(net, reference):
    assert type(net) is type(reference)
    assert not net.training
    for name, value in reference.state_dict().items():
        assert torch.equal(net.state_dict()[name], value.float())
    assert len(net.state_dict()) == len(reference.state_dict())
    assert {weight.dtype for weight in net.parameters()} == {torch.float32}


@pytest.mark.parametrize("dialect", [dict, new_esrgan, old_esrgan])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_dialects(tmp_path, dialect, scale):
    reference = small(scale)
    state = dialect(reference.state_dict())
    torch.save(state, tmp_path / "x.pth")
    net = load_restorer(tmp_path / "x.pth")
    same_network(net, reference)
    assert (net.scale, net.init_args) == (scale, {"scale": scale, **SMALL})
    # spandrel knows the three dialects as well
    assert ModelLoader().load_from_state_dict(state).scale == scale


@pytest.mark.parametrize("gc", [4, 16])
def test_other_growth(tmp_path, gc):
    torch.save(small(gc=gc).state_dict(), tmp_path / "x.pth")
    assert load_restorer(tmp_path / "x.pth").init_args["gc"] == gc


def marked(value):
    """Weights that tell where they came from."""
    return {name: torch.full_like(tensor, value) for name, tensor in small().state_dict().items()}


@pytest.mark.parametrize(
    "content",
    [
        {"params": marked(2.0), "params_ema": marked(1.0)},
        {"params": marked(1.0)},
        {"state_dict": marked(1.0), "optimizer": {}},
        {"model": marked(1.0)},
        {"g": marked(2.0), "d": {"x": torch.zeros(1)}, "g_ema": marked(1.0)},
        {"params_ema": {f"module.{name}": value for name, value in marked(1.0).items()}},
        {f"netG.{name}": value for name, value in marked(1.0).items()},
        {
            "state_dict": {f"net.{name}": value for name, value in marked(1.0).items()}
            | {"discriminator.conv9.weight": torch.zeros(1)},
            "ddpm_pairs": {"kind": "restorer"},
        },
    ],
    ids=["both", "params", "state_dict", "model", "g_ema", "module", "netG", "lightning"],
)
def test_wrappers(tmp_path, content):
    torch.save(content, tmp_path / "x.ckpt")
    net = load_restorer(tmp_path / "x.ckpt")
    assert {value.item() for weight in net.parameters() for value in weight.unique()} == {1.0}


def test_safetensors_of_half_precision(tmp_path):
    reference = small(2).half()
    save_file(
        dict(reference.state_dict()), tmp_path / "x.safetensors", {"ddpm_pairs": json.dumps({"kind": "restorer"})}
    )
    same_network(load_restorer(tmp_path / "x.safetensors"), reference)


@pytest.mark.parametrize(
    "options",
    [
        {"size": 16, "narrow": 0.0625},
        {"size": 64, "narrow": 0.0625, "channel_multiplier": 1},
        {"size": 128, "narrow": 0.03125, "channel_multiplier": 2, "isconcat": False},
    ],
)
def test_gpen(tmp_path, options):
    reference = GPEN(**options)
    torch.save({"g_ema": reference.state_dict()}, tmp_path / "x.pth")
    same_network(load_restorer(tmp_path / "x.pth"), reference)


def test_gpen_without_its_fixed_kernels_or_with_more(tmp_path):
    reference = GPEN(16, narrow=0.0625)
    state = dict(reference.state_dict()) | {"generator.somewhere.kernel": torch.zeros(4, 4)}
    torch.save(state, tmp_path / "x.pth")
    same_network(load_restorer(tmp_path / "x.pth"), reference)


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)


def test_other_networks_fill_a_copy_of_the_configs(tmp_path):
    trained, config = Own(), Own()
    before = config.conv.weight.clone()
    torch.save({"state_dict": {f"net.{n}": v for n, v in trained.state_dict().items()}}, tmp_path / "x.ckpt")
    same_network(load_restorer(tmp_path / "x.ckpt", config), trained)
    assert torch.equal(config.conv.weight, before)
    # RRDB's weights build an RRDBNet whatever the config says
    torch.save(small().state_dict(), tmp_path / "y.ckpt")
    same_network(load_restorer(tmp_path / "y.ckpt", config), small())


def without(state, *parts):
    return {name: value for name, value in state.items() if not any(part in name for part in parts)}


def old_with_other_ups(numbers):
    state = old_esrgan(small().state_dict())
    rest = without(state, "model.3.", "model.6.", "model.8.", "model.10.")
    return rest | {f"model.{number}.weight": torch.zeros(16, 16, 3, 3) for number in numbers}


def of(*names):
    return {name: torch.zeros(1) for name in names}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (old_with_other_ups([2, 4]), "damaged weights of ESRGAN"),
        (old_with_other_ups([3, 7, 9]), "damaged weights of ESRGAN"),
        (without(small().state_dict(), "conv_first"), "a part of an RRDBNet"),
        (without(small().state_dict(), "conv_hr.bias"), r"damaged weights of RRDBNet \(Missing key.*conv_hr.bias"),
        (
            small().state_dict() | {"conv_first.weight": torch.zeros(16, 1, 3, 3)},
            "ESRGAN with 1 input and 3 output channels; expected RGB",
        ),
        (
            {**new_esrgan(small().state_dict()), "RRDB_trunk.0.RDB1.conv1x1.weight": torch.zeros(1)},
            r"ESRGAN\+ with the names",
        ),
        ({"params": UNetDiscriminator(2).state_dict()}, r"a U-Net discriminator \(netD\)"),
        (of("convs.0.0.weight", "final_conv.0.weight"), "a StyleGAN discriminator"),
        ({"ddpm_pairs": {"kind": "ddpm"}, "state_dict": of("net.conv_in.weight")}, "a DDPM; expected"),
        ({"ddpm_pairs": {"kind": "prior"}, "state_dict": of("net.x")}, "a GAN prior; expected"),
        ({"state": {}, "param_groups": []}, "the state of an optimizer"),
        ({"epoch": 1, "iter": 2, "optimizers": [], "schedulers": []}, "a training state"),
        ({}, "an empty file of weights"),
        ({"names": ["a"]}, r"a dict without weights \(names\)"),
        ([1], "a list of values"),
        (torch.zeros(1), "a single tensor"),
        (of("features.0.weight"), "an AlexNet or a VGG"),
        (of("first", "second"), r"weights of an unknown network \('first', 'second'\)"),
    ],
)
def test_wrong_weights_are_named(tmp_path, content, said):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=said) as caught:
        load_restorer(tmp_path / "x.pth")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "x.pth") in str(caught.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".ckpt"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file"),
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html>Not found</html>", "a web page"),
        (b"model:\n  x: 1\n", r"text;"),
        (bytes(range(256)), "a damaged file, or one of another type"),
    ],
)
def test_files_without_weights_are_named(tmp_path, suffix, content, said):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"looks like {said}") as caught:
        load_restorer(path)
    assert "\n" not in str(caught.value)


class Harmful:
    def __reduce__(self):
        return (print, ("run by a pickle",))


def test_pickles_with_objects_are_not_run(tmp_path, capsys):
    torch.save({"params": small().state_dict(), "args": Harmful()}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="a pickle with Python objects"):
        load_restorer(tmp_path / "x.pth")
    assert capsys.readouterr().out == ""


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ValueError, match="nowhere.pth does not exist; expected a restorer's weights"):
        load_restorer("nowhere.pth")
    with pytest.raises(ValueError, match="is a folder, such as an exported DDPM"):
        load_restorer(tmp_path)


def test_weights_that_fit_neither_name_nor_config(tmp_path):
    torch.save(of("features.0.weight"), tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"an AlexNet or a VGG \(.*conv.weight.*\); expected .* the config's Own"):
        load_restorer(tmp_path / "x.pth", Own())
