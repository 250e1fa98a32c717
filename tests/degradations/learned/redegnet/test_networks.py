"""ReDegNet's networks: published sizes, and SynNet against a loop over images and explicit weights."""

import pytest
import torch
import torch.nn.functional as F

from ddpm_pairs.degradations.learned.redegnet.discriminator import SynD
from ddpm_pairs.degradations.learned.redegnet.networks import ReDegNet
from ddpm_pairs.errors import UserError


def millions(net):
    return round(sum(parameter.numel() for parameter in net.parameters()) / 1e6, 2)


def test_parameters_of_the_published_sizes():
    with torch.device("meta"):
        net, judge = ReDegNet(), SynD()
    sizes = [millions(part) for part in (net.deg, net.syn.encoder, net.syn.generator, judge)]
    assert sizes == [13.09, 15.97, 45.18, 10.37]
    assert net.size == 256


def test_the_official_size_takes_a_step():
    torch.manual_seed(0)
    net, judge = ReDegNet(), SynD()
    hq, lq = torch.rand(2, 1, 3, 256, 256)
    codes = net.deg(hq, lq)
    made = net.syn(hq, codes)
    assert codes.shape == (1, 512) and made.shape == (1, 3, 256, 256)
    (made.mean() + judge(made, hq, codes).mean()).backward()
    assert all(parameter.grad is not None for parameter in [*net.parameters(), *judge.parameters()])


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = ReDegNet(width=4, levels=2, code=6).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return net


def normalized(conv):
    """The weight of a spectral-norm convolution in evaluation."""
    weight = conv.weight_orig.flatten(1)
    return conv.weight_orig / torch.dot(conv.weight_u, weight @ conv.weight_v)


def act(x):
    return F.leaky_relu(x, 0.2)


def spectral(conv, x, stride=1):
    return F.conv2d(x, normalized(conv), conv.bias, stride, conv.weight_orig.shape[-1] // 2)


def modulated(layer, x, w, normalize=True):
    """One image: the weight is scaled per input channel by the style, then normalized per output channel."""
    style = layer.modulation.weight @ w / w.numel() ** 0.5 + layer.modulation.bias
    weight = layer.weight[0] / layer.weight[0, 0].numel() ** 0.5 * style[None, :, None, None]
    if normalize:
        weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
    return F.conv2d(x, weight, padding=weight.shape[-1] // 2)


def doubled(x):
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def rendered(syn, hq, code):
    """SynNet of one image."""
    x, maps = hq * 2 - 1, []
    for number, stage in enumerate(syn.encoder.stages):
        x = act(spectral(stage[0], x, 1 if number == 0 else 2))
        maps.insert(0, x)
    first, _, block = syn.encoder.end
    x = act(spectral(first, x))
    body = block.body
    x = spectral(body[3], act(spectral(body[1], act(x)))) + spectral(block.skip, x)
    generator = syn.generator
    w = code / (code.square().mean() + 1e-8).sqrt()
    for layer in generator.style[1::2]:
        w = act(layer.weight @ w + layer.bias)

    def step(number, x, content):
        one = generator.steps[number]
        return act(spectral(one.conv[0], modulated(one.modulated, x, w) + one.strength * content))

    def rgb(number, x):
        return modulated(generator.to_rgb[number].conv, x, w, False) + generator.to_rgb[number].bias

    x = step(0, spectral(generator.start, x), maps[0])
    image = rgb(0, x).tanh()
    for level in (1, 2):
        x = step(2 * level, step(2 * level - 1, doubled(x), maps[level]), maps[level])
        image = (rgb(level, x) + doubled(image)).tanh()
    return image


@pytest.mark.parametrize("residual", [False, True])
def test_rendering_one_by_one(net, residual):
    net.syn.residual = residual
    hq, codes = torch.rand(3, 3, 16, 24).double(), torch.randn(3, 6).double()
    with torch.no_grad():
        made = net.syn(hq, codes)
        for row in range(3):
            expected = rendered(net.syn, hq[row : row + 1], codes[row])
            expected = hq[row : row + 1] + expected if residual else (expected + 1) / 2
            torch.testing.assert_close(made[row : row + 1], expected)


def test_codes_of_a_pair(net):
    hq, lq = torch.rand(2, 2, 3, 16, 16).double()
    with torch.no_grad():
        x = torch.cat([hq, lq], 1) * 2 - 1
        for number, conv in enumerate(net.deg.features[::2]):
            x = act(spectral(conv, x, 1 if number == 0 else 2))
        first, _, second = net.deg.code
        torch.testing.assert_close(net.deg(hq, lq), second(act(first(x.flatten(1)))))
    assert net.size == 16 and not torch.equal(net.deg(hq, lq), net.deg(lq, hq))


@pytest.mark.parametrize("spectral", [True, False])
def test_codes_of_equal_images_are_the_same_at_first(spectral):
    torch.manual_seed(0)
    net = ReDegNet(width=4, levels=2, code=6, spectral=spectral)
    hq = torch.rand(3, 3, 16, 16)
    codes = net.deg(hq, hq)
    torch.testing.assert_close(codes, codes[:1].expand(3, -1))
    assert net.deg(hq, hq * 0.5).std(0).mean() > 1e-4


def test_the_content_adds_nothing_at_first():
    torch.manual_seed(0)
    net = ReDegNet(width=4, levels=2, code=6).eval()
    hq, codes = torch.rand(1, 3, 16, 16), torch.randn(1, 6)
    maps = net.syn.encoder(hq)
    other = [maps[0], *(one + 1 for one in maps[1:])]
    assert torch.equal(net.syn.render(hq, maps, codes), net.syn.render(hq, other, codes))


def test_the_discriminator_gives_codes_no_gradient():
    torch.manual_seed(0)
    judge = SynD(4, 6)
    lq, hq, codes = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16), torch.randn(2, 6, requires_grad=True)
    logits = judge(lq, hq, codes)
    assert logits.shape == (2, 1)
    logits.sum().backward()
    assert codes.grad is None
    with torch.no_grad():
        assert not torch.equal(logits, judge(lq, hq, codes + 1))


@pytest.mark.parametrize("sizes", [{"width": 0}, {"levels": 0}, {"code": -1}])
def test_wrong_sizes(sizes):
    (name,) = sizes
    with pytest.raises(UserError, match=f"redegnet {name}: got {sizes[name]}; expected 1 or more"):
        ReDegNet(**sizes)
