"""SpandrelNet against spandrel's own descriptors, called directly on the same file."""

import importlib.util
from contextlib import nullcontext

import pytest
import torch
from safetensors.torch import save_file
from spandrel import ModelLoader
from spandrel.architectures import DAT, ESRGAN, HAT, RCAN, SPAN, Compact, DnCNN, LaMa, SwinIR, Uformer

from ddpm_pairs.images.tiling import restore_picture
from ddpm_pairs.restoration.networks import spandrel_net
from ddpm_pairs.restoration.networks.spandrel_net import SpandrelNet
from ddpm_pairs.restoration.weights import load_restorer

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")

LQ = torch.rand(1, 3, 19, 23, generator=torch.Generator().manual_seed(0))
"""No side is a multiple of anything."""

RGB = {"num_in_ch": 3, "num_out_ch": 3}
WINDOWS = {"img_size": 16, "mlp_ratio": 2.0, "depths": (2,), "num_heads": (2,), "upsampler": "pixelshuffle"}
SMALL = {
    "SPAN": (SPAN.SPAN, {**RGB, "feature_channels": 8, "upscale": 2}),
    "Compact": (Compact.Compact, {**RGB, "num_feat": 8, "num_conv": 2, "upscale": 4}),
    "SwinIR": (SwinIR.SwinIR, {**WINDOWS, "window_size": 8, "embed_dim": 12, "upscale": 2}),
    "DAT": (
        DAT.DAT,
        {"img_size": 16, "embed_dim": 32, "split_size": (2, 4), "depth": (2,), "num_heads": (2,), "upscale": 3},
    ),
    "HAT": (
        HAT.HAT,
        {**WINDOWS, "window_size": 16, "embed_dim": 36, "compress_ratio": 3, "squeeze_factor": 6, "upscale": 4},
    ),
    "RCAN": (RCAN.RCAN, {"n_resgroups": 1, "n_resblocks": 1, "n_feats": 8, "reduction": 2, "scale": 2}),
    "Uformer": (Uformer.Uformer, {"embed_dim": 2, "depths": [1] * 9, "num_heads": [1] * 9}),
}


def small_weights(name):
    """Random weights of a small network, none of them zero, as many layers start."""
    network_class, options = SMALL[name]
    torch.manual_seed(0)
    net = network_class(**options)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return net.eval().state_dict()


def saved(path, weights):
    if path.suffix == ".safetensors":
        save_file({key: value.contiguous() for key, value in weights.items()}, path)
    else:
        torch.save({"params": weights}, path)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", SMALL)
def test_equals_spandrels_descriptor(tmp_path, name, suffix):
    path = saved(tmp_path / f"x{suffix}", small_weights(name))
    theirs = ModelLoader().load_from_file(path)
    net = load_restorer(path)
    assert (type(net), net.architecture, net.scale, net.side) == (SpandrelNet, name, theirs.scale, None)
    expected, given = theirs(LQ.clone()), LQ.clone()
    with torch.no_grad():
        restored = net(given)
    assert torch.equal(restored.clamp(0, 1), expected)
    assert expected.std() > 0.001
    assert torch.equal(given, LQ)  # RCAN multiplies its input in place
    assert torch.equal(restore_picture(net, LQ[0])[None].clamp(0, 1), expected)


def test_an_image_of_a_few_pixels_is_padded_as_spandrel_does(tmp_path):
    path = saved(tmp_path / "x.pth", small_weights("SwinIR"))
    tiny = LQ[..., :2, :5]
    assert torch.equal(load_restorer(path)(tiny).clamp(0, 1), ModelLoader().load_from_file(path)(tiny))


def esrgan(**options):
    torch.manual_seed(1)
    return ESRGAN.ESRGAN(**{"num_filters": 8, "num_blocks": 2, **options}).state_dict()


def bsrgan_x2(weights):
    """The names of BSRGAN's x2, which has one up-convolution."""
    ends = {"0": "conv_first", "1.sub.2": "trunk_conv", "3": "upconv1", "5": "HRconv", "7": "conv_last"}
    renamed = {}
    for name, value in weights.items():
        layer, _, kind = name.removeprefix("model.").rpartition(".")
        if layer.startswith("1.sub.") and "RDB" in layer:
            _, _, block, dense, conv, _ = layer.split(".")
            renamed[f"RRDB_trunk.{block}.{dense}.{conv}.{kind}"] = value
        else:
            renamed[f"{ends[layer]}.{kind}"] = value
    return renamed


@pytest.mark.parametrize(
    ("weights", "scale"),
    [(bsrgan_x2(esrgan(scale=2)), 2), (esrgan(scale=4, plus=True), 4), (esrgan(scale=8), 8)],
    ids=["BSRGAN x2", "ESRGAN+", "x8"],
)
def test_relatives_of_rrdb_that_ours_is_not(tmp_path, weights, scale):
    path = saved(tmp_path / "x.pth", weights)
    net = load_restorer(path)
    assert (type(net), net.architecture, net.scale) == (SpandrelNet, "ESRGAN", scale)
    assert torch.equal(net(LQ).clamp(0, 1), ModelLoader().load_from_file(path)(LQ))


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (DnCNN.DnCNN(in_nc=1, out_nc=1).state_dict(), "DnCNN with 1 input and 1 output channels; expected RGB"),
        (LaMa.LaMa().state_dict(), "LaMa, which needs a mask; expected a network that restores images"),
        ({**small_weights("SPAN"), "conv_cat.weight": torch.zeros(1)}, "damaged weights of SPAN"),
    ],
    ids=["gray", "inpainting", "damaged"],
)
@pytest.mark.parametrize("load", [load_restorer, lambda path: SpandrelNet(str(path))], ids=["load", "SpandrelNet"])
def test_what_cannot_be_used_ends_in_a_sentence(tmp_path, weights, said, load):
    torch.save(weights, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=said) as caught:
        load(tmp_path / "x.pth")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "x.pth") in str(caught.value)


def layer_one_billion():
    """4 KB that name layer 1,000,000,000."""
    return {"body.0.weight": torch.zeros(8, 3, 3, 3), "body.1.weight": torch.zeros(8)} | {
        f"body.1000000000.{kind}": torch.zeros(48) for kind in ("weight", "bias")
    }


def a_million_wide():
    """A width that is stored once and expanded."""
    weights = small_weights("Compact")
    return weights | {"body.0.weight": torch.zeros(1, 1, 1, 1).expand(10**6, 3, 3, 3)}


@pytest.mark.parametrize("weights", [layer_one_billion, a_million_wide])
def test_a_small_file_builds_no_huge_network(tmp_path, weights):
    torch.save(weights(), tmp_path / "x.pth")
    with pytest.raises(ValueError, match="far larger than its weights"):
        load_restorer(tmp_path / "x.pth")


def test_missing_weights():
    with pytest.raises(ValueError, match=r"nowhere.pth does not exist; expected .*use the fit's last.ckpt"):
        SpandrelNet("nowhere.pth")


def test_foreign_weights_name_the_extra_package(tmp_path, monkeypatch):
    torch.save({"some.weight": torch.zeros(1)}, tmp_path / "x.pth")
    for installed, expected in ((None, "pip install 'ddpm_pairs"), (object(), "spandrel opens; use another file$")):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, found=installed: found)
        spandrel_net._registry.cache_clear()
        with monkeypatch.context() as patch:
            if installed is not None:
                patch.setattr(spandrel_net, "_registry", lambda: ModelLoader().registry)
            with pytest.raises(ValueError, match=expected):
                SpandrelNet(str(tmp_path / "x.pth"))
    spandrel_net._registry.cache_clear()


@pytest.mark.parametrize(
    ("name", "autocast", "computed"),
    [
        ("SPAN", torch.float16, torch.float16),
        ("SwinIR", torch.float16, torch.float32),  # spandrel: "Too much weirdness to support this at the moment"
        ("SwinIR", torch.bfloat16, torch.bfloat16),
    ],
)
@pytest.mark.parametrize("training", [False, True])
def test_autocast_only_where_spandrel_says_so(tmp_path, name, autocast, computed, training):
    net = load_restorer(saved(tmp_path / "x.pth", small_weights(name))).train(training)
    seen = []
    for part in net.modules():
        if isinstance(part, torch.nn.Conv2d):
            part.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    with torch.autocast("cpu", dtype=autocast):
        net(LQ[..., :16, :16])
    assert set(seen) == {computed}


def test_half_precision_that_is_not_supported_is_refused(tmp_path):
    net = load_restorer(saved(tmp_path / "x.pth", small_weights("SwinIR"))).half()
    with pytest.raises(ValueError, match=r"SwinIR does not support torch.float16; set --trainer.precision 32-true"):
        net(LQ.half())


@pytest.mark.parametrize(
    ("name", "tiling", "tiles"), [("SPAN", "supported", 4), ("SwinIR", "discouraged", 4), ("SPAN", "internal", 1)]
)
def test_tiling_follows_what_spandrel_recommends(tmp_path, name, tiling, tiles):
    net = load_restorer(saved(tmp_path / "x.pth", small_weights(name)))
    if tiling == "internal":
        net.tiling = tiling
    assert net.tiling == tiling
    calls = []
    net.register_forward_hook(lambda _, given, __: calls.append(given[0].shape[2:]))
    warned = pytest.warns(UserWarning, match="tile null") if tiling == "discouraged" else nullcontext()
    with warned:
        restore_picture(net, torch.rand(3, 24, 24), tile=16, overlap=4)
    assert len(calls) == tiles


def test_weights_computed_while_restoring_can_be_trained_on(tmp_path):
    """SPAN replaces the data of a convolution at each inference, also when validation runs in inference mode."""
    net = load_restorer(saved(tmp_path / "x.pth", small_weights("SPAN")))
    with torch.inference_mode():
        before = net(LQ)
    net.train()(LQ).square().mean().backward()
    assert all(parameter.grad is not None for parameter in net.parameters() if parameter.requires_grad)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.01)  # fails for tensors that were made in inference mode
    assert not torch.equal(net.eval()(LQ), before)
    folded = net.released_weights()["block_1.c1_r.eval_conv.weight"].clone()
    net(LQ)
    assert torch.equal(net.spandrel.block_1.c1_r.eval_conv.weight, folded)  # what is exported is up to date


@pytest.mark.slow
def test_a_face_network_that_draws_noise(tmp_path):
    from spandrel.architectures.GFPGAN import GFPGAN

    torch.manual_seed(0)
    network = GFPGAN(channel_multiplier=2, num_style_feat=512, input_is_latent=True, sft_half=True, different_w=True)
    weights = network.state_dict()
    for name, value in weights.items():
        if "style_conv" in name and value.shape == (1,):
            value.fill_(0.1)  # the strength of the noise, which starts at 0
    net = load_restorer(saved(tmp_path / "x.pth", weights))
    assert (net.architecture, net.scale, net.side, net.multiple) == ("GFPGAN", 1, 512, 512)
    face = torch.rand(1, 3, 512, 512)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    with torch.no_grad():
        first, second = net(face), net(face)
        assert first.isfinite().all()
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(first, second)
        torch.manual_seed(1)
        assert not torch.equal(net._call(net.spandrel, face), first)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("spandrel_extra_arches") is None,
    reason="CodeFormer needs the package spandrel_extra_arches (its architectures are for non-commercial use)",
)
def test_codeformer_from_the_extra_package(tmp_path):
    import spandrel_extra_arches
    from spandrel import MAIN_REGISTRY
    from spandrel_extra_arches.architectures.CodeFormer import CodeFormer

    torch.manual_seed(0)
    path = saved(tmp_path / "x.pth", CodeFormer(n_layers=2).state_dict())
    before = len(MAIN_REGISTRY)
    net = load_restorer(path)
    assert len(MAIN_REGISTRY) == before  # other users of spandrel in this process see no difference
    assert (net.architecture, net.scale, net.side, net.multiple) == ("CodeFormer", 1, 512, 512)
    registry = MAIN_REGISTRY.copy()
    registry.add(*spandrel_extra_arches.EXTRA_REGISTRY)
    face = torch.rand(1, 3, 512, 512)
    with torch.no_grad():
        assert torch.equal(net(face).clamp(0, 1), ModelLoader(registry=registry).load_from_file(path)(face))


OFFICIAL = {
    "SPAN x4": (SPAN.SPAN, {**RGB, "feature_channels": 48, "upscale": 4}),
    "realesr-general-x4v3": (Compact.Compact, {**RGB, "num_feat": 64, "num_conv": 32, "upscale": 4}),
    "SwinIR-M x4": (
        SwinIR.SwinIR,
        {
            "img_size": 64,
            "window_size": 8,
            "embed_dim": 180,
            "depths": (6,) * 6,
            "num_heads": (6,) * 6,
            "mlp_ratio": 2.0,
            "upscale": 4,
            "upsampler": "nearest+conv",
        },
    ),
    "DAT x4": (
        DAT.DAT,
        {"img_size": 64, "upscale": 4, "split_size": (8, 32), "depth": (6,) * 6, "num_heads": (6,) * 6},
    ),
    "HAT x4": (
        HAT.HAT,
        {
            "img_size": 64,
            "window_size": 16,
            "embed_dim": 180,
            "depths": (6,) * 6,
            "num_heads": (6,) * 6,
            "mlp_ratio": 2.0,
            "compress_ratio": 3,
            "squeeze_factor": 30,
            "upscale": 4,
            "upsampler": "pixelshuffle",
        },
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OFFICIAL)
def test_official_sizes(tmp_path, name):
    network_class, options = OFFICIAL[name]
    path = saved(tmp_path / "x.pth", network_class(**options).state_dict())
    with torch.no_grad():
        restored = load_restorer(path)(LQ)
    assert restored.shape == (1, 3, 76, 92)
    assert torch.equal(restored.clamp(0, 1), ModelLoader().load_from_file(path)(LQ))
