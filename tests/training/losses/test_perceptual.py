"""Feature losses against torchvision's VGG19 and the lpips package; no test needs the published weights."""

import copy

import lightning as L
import lpips
import pytest
import torch
import torchvision
from torch import nn

from ddpm_pairs.metrics import weights
from ddpm_pairs.training.losses.perceptual import Perceptual

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torchvision")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_PAIRS_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


@pytest.fixture
def no_network(monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)


@pytest.fixture
def pictures():
    torch.manual_seed(0)
    return torch.rand(2, 3, 32, 48).requires_grad_(), torch.rand(2, 3, 32, 48)


def gradient(loss, restored):
    return torch.autograd.grad(loss, restored)[0]


def torchvisions_vgg19():
    """The convolutions alone, without the classifier, which is large."""
    torch.manual_seed(1)
    return torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["E"])


@pytest.fixture
def vgg(folder):
    layers = torchvisions_vgg19()
    state = {f"features.{name}": value for name, value in layers.state_dict().items()}
    torch.save(state | {"classifier.0.weight": torch.zeros(1)}, folder / "vgg19-dcbb9e9d.pth")
    return layers


def test_vgg19(vgg, pictures):
    restored, hq = pictures
    loss = Perceptual("vgg19")(restored, hq)
    # By torchvision's layers, each tapped by a run of its own, since the ReLUs overwrite what they are given.
    expected = 0
    for name, weight, convolution in (("1_2", 0.1, 2), ("2_2", 0.1, 4), ("3_4", 1, 8), ("4_4", 1, 12), ("5_4", 1, 16)):
        numbers = [n for n, layer in enumerate(vgg) if isinstance(layer, nn.Conv2d)]
        chain = vgg[: numbers[convolution - 1] + 1]
        assert len([one for one in chain if isinstance(one, nn.MaxPool2d)]) == int(name[0]) - 1
        ours, theirs = (
            chain(torchvision.transforms.functional.normalize(x, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
            for x in (restored, hq)
        )
        expected = expected + weight * (ours - theirs).abs().mean()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(gradient(loss, restored), gradient(expected, restored), rtol=1e-3, atol=1e-9)
    assert Perceptual("vgg19")(hq, hq) == 0


@pytest.fixture
def alexnets(folder):
    torch.manual_seed(1)
    reference = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    state = {f"features.{n}": v for part in reference.net.children() for n, v in part.state_dict().items()}
    torch.save(state, folder / "alexnet_features.pth")
    return reference


def test_lpips(alexnets, pictures):
    restored, hq = pictures
    loss, expected = Perceptual("lpips")(restored, hq), alexnets(restored, hq, normalize=True).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient(loss, restored), gradient(expected, restored), rtol=1e-4, atol=1e-9)
    assert loss > 0.01


def test_random(pictures):
    restored, hq = pictures
    state = torch.get_rng_state()
    loss = Perceptual("random")(restored, hq)
    assert torch.equal(torch.get_rng_state(), state)
    assert loss > 0
    assert gradient(loss, restored).abs().max() > 0
    assert torch.equal(loss, Perceptual("random")(restored, hq))
    assert Perceptual("random")(hq, hq) == 0


def grams(features):
    """Gram matrices by their definition: mean products of channels, divided by the number of channels."""
    count, channels, height, width = features.shape
    return torch.einsum("nchw,ndhw->ncd", features, features) / (channels * height * width)


def tapped(layers, x, places):
    mean, std = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    return [layers[: place + 1](torchvision.transforms.functional.normalize(x, mean, std)) for place in places]


def test_vgg19_with_style_and_weights(vgg, pictures):
    restored, hq = pictures
    weights = [2.0, 1.2, 0.6, 0.2, 0.1]
    for layer in vgg:
        if isinstance(layer, nn.ReLU):
            layer.inplace = False
    distance, style = Perceptual("vgg19", weights).with_style(restored, hq)
    places = (2, 7, 16, 25, 34)
    pairs = list(zip(weights, *(tapped(vgg, one, places) for one in (restored, hq)), strict=True))
    torch.testing.assert_close(distance, sum(w * (a - b).abs().mean() for w, a, b in pairs), rtol=1e-4, atol=0)
    expected = sum(w * (grams(a) - grams(b)).abs().mean() for w, a, b in pairs)
    torch.testing.assert_close(style, expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(gradient(style, restored), gradient(expected, restored), rtol=1e-3, atol=1e-9)


def test_lpips_with_style(alexnets, pictures):
    restored, hq = pictures
    loss = Perceptual("lpips", [1.0, 0.0, 2.0, 0.0, 0.0])
    distance, style = loss.with_style(restored, hq)
    assert torch.equal(distance, loss(restored, hq))
    alexnet = nn.Sequential(*(layer for part in alexnets.net.children() for layer in part))
    seen = [tapped(alexnet, one, (1, 7)) for one in (restored, hq)]  # the ReLUs of the first and third convolution
    (first, third), (other_first, other_third) = seen
    expected = (grams(first) - grams(other_first)).abs().mean() + 2 * (grams(third) - grams(other_third)).abs().mean()
    torch.testing.assert_close(style, expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize(("features", "layers"), [("vgg19", [1.0]), ("lpips", [1.0] * 4 + [-1.0]), ("random", [])])
def test_wrong_layers(features, layers):
    with pytest.raises(ValueError, match=f"perceptual.layers: got .*expected {'2' if features == 'random' else '5'}"):
        Perceptual(features, layers)


def test_bfloat16_gives_a_float32_loss(pictures):
    restored, hq = pictures
    loss = Perceptual("random")
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(restored, hq)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(restored, hq), rtol=0.02, atol=0)


def test_belongs_to_no_checkpoint_and_is_not_trained(pictures):
    module = L.LightningModule()
    module.perceptual, module.net = Perceptual("random"), nn.Conv2d(3, 3, 1)
    module.perceptual(*pictures)
    assert set(module.state_dict()) == {"net.weight", "net.bias"}
    assert {name for name, _ in module.named_parameters()} == {"net.weight", "net.bias"}
    assert not list(module.perceptual.buffers())
    network = module.perceptual._unregistered[0]
    assert not any(weight.requires_grad for weight in network.parameters())
    again = copy.deepcopy(module)
    assert again.perceptual._unregistered[0] is network
    assert torch.equal(again.perceptual(*pictures), module.perceptual(*pictures))


@pytest.mark.parametrize(
    ("features", "name", "instead"),
    [("vgg19", "vgg19-dcbb9e9d.pth", "features lpips"), ("lpips", "alexnet-owt-7be5be79.pth", "features vgg19")],
)
def test_missing_weights_say_what_to_do(folder, no_network, features, name, instead):
    loss = Perceptual(features)  # a config that names it serves to restore pictures too
    with pytest.raises(weights.MissingWeightsError) as caught:
        loss.load()
    text = str(caught.value)
    assert "\n" not in text
    for part in (f"save {name}", "https://", "$DDPM_PAIRS_WEIGHTS", str(folder / "torch"), instead, "random"):
        assert part in text


@pytest.mark.parametrize(("features", "name"), [("vgg19", "vgg19-dcbb9e9d.pth"), ("lpips", "alexnet_features.pth")])
def test_files_that_are_no_such_weights(folder, features, name):
    torch.save({"features.0.weight": torch.zeros(3)}, folder / name)
    with pytest.raises(ValueError, match=f"{name}.* weights of (VGG19|AlexNet)"):
        Perceptual(features).load()


def test_unknown_features():
    with pytest.raises(ValueError, match="--model.perceptual.features: got 'vgg16'"):
        Perceptual("vgg16")
