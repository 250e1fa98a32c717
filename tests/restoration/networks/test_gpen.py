"""GPEN as a whole: sizes, names, and which part of the input reaches which part of the output."""

import pytest
import torch

from ddpm_pairs.restoration.networks.gpen import GPEN, StyleDecoder, StyleDiscriminator
from ddpm_pairs.restoration.weights import load_restorer

TINY = {"size": 32, "channel_multiplier": 1, "narrow": 1 / 64}


def tiny(cls=GPEN, seed=0, **options):
    torch.manual_seed(seed)
    return cls(**{**TINY, **options})


def stirred(net, seed=0):
    """All weights moved from their start, where noise plays no part."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return net


def millions(module):
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


@pytest.mark.parametrize(
    ("options", "generator", "discriminator", "entries"),
    [((256, 1, 0.5), 18.9, 6.0, 144), ((512, 2, 1.0), 71.0, 29.0, 163), ((1024, 2, 1.0), 71.2, 29.0, 182)],
)
def test_official_sizes(options, generator, discriminator, entries):
    with torch.device("meta"):
        net, judge = GPEN(*options), StyleDiscriminator(*options)
    assert round(millions(net), 1) == generator
    assert round(millions(judge), 1) == discriminator
    assert len(net.state_dict()) == entries
    if options[0] == 512:
        assert round(millions(net.generator), 1) == 55.8
        assert round(millions(net) - millions(net.generator), 1) == 15.2


def test_released_names():
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in GPEN(512, 2, 1.0).state_dict().items()}
        critic = {name: tuple(value.shape) for name, value in StyleDiscriminator(512, 2, 1.0).state_dict().items()}
    expected = {
        "generator.style.1.weight": (512, 512),
        "generator.style.8.bias": (512,),
        "generator.input.input": (1, 512, 4, 4),
        "generator.conv1.conv.weight": (1, 512, 512, 3, 3),
        "generator.conv1.conv.modulation.weight": (512, 512),
        "generator.conv1.noise.weight": (1,),
        "generator.conv1.activate.bias": (1024,),
        "generator.to_rgb1.bias": (1, 3, 1, 1),
        "generator.to_rgb1.conv.weight": (1, 3, 1024, 1, 1),
        "generator.convs.0.conv.blur.kernel": (4, 4),
        "generator.convs.13.conv.weight": (1, 64, 128, 3, 3),
        "generator.convs.13.activate.bias": (128,),
        "generator.to_rgbs.6.upsample.kernel": (4, 4),
        "generator.to_rgbs.6.conv.modulation.bias": (128,),
        "ecd0.0.0.weight": (64, 3, 1, 1),
        "ecd0.0.1.bias": (64,),
        "ecd7.0.0.kernel": (4, 4),
        "ecd7.0.1.weight": (512, 512, 3, 3),
        "ecd7.0.2.bias": (512,),
        "final_linear.0.weight": (512, 8192),
    }
    assert {name: shapes[name] for name in expected} == expected
    expected = {
        "convs.0.0.weight": (64, 3, 1, 1),
        "convs.0.1.bias": (64,),
        "convs.1.conv1.0.weight": (64, 64, 3, 3),
        "convs.1.conv2.0.kernel": (4, 4),
        "convs.7.conv2.1.weight": (512, 512, 3, 3),
        "convs.7.conv2.2.bias": (512,),
        "convs.7.skip.1.weight": (512, 512, 1, 1),
        "final_conv.0.weight": (512, 513, 3, 3),
        "final_linear.0.weight": (512, 8192),
        "final_linear.1.weight": (1, 512),
    }
    assert {name: critic[name] for name in expected} == expected


@pytest.mark.parametrize("options", [{}, {"isconcat": False}, {"size": 64, "channel_multiplier": 2}])
def test_comes_back_from_its_weights_alone(options, tmp_path):
    net = stirred(tiny(**options))
    torch.save(net.state_dict(), tmp_path / "GPEN.pth")
    lq = torch.rand(2, 3, net.side, net.side)
    assert torch.equal(load_restorer(tmp_path / "GPEN.pth")(lq), net(lq))


class TestGPEN:
    @pytest.mark.parametrize("isconcat", [True, False])
    @pytest.mark.parametrize("size", [16, 32, 64])
    def test_restores_at_its_size(self, size, isconcat):
        net = tiny(size=size, isconcat=isconcat)
        assert (net.scale, net.multiple, net.side) == (1, size, size)
        assert net(torch.rand(2, 3, size, size)).shape == (2, 3, size, size)

    def test_pictures_do_not_mix(self):
        net, lq = stirred(tiny()).double(), torch.rand(3, 3, 32, 32, dtype=torch.float64)
        torch.testing.assert_close(net(lq)[1:2], net(lq[1:2]))

    def test_other_sides(self):
        with pytest.raises(ValueError, match="got images of 64x32 px; expected 32x32 px"):
            tiny()(torch.rand(1, 3, 32, 64))

    def test_features_steer_only_through_the_noise_weights(self):
        """With all of them 0, as at the start, the picture depends on the code alone."""
        net = tiny()
        features, z = net.encode(torch.rand(2, 3, 32, 32))
        assert [tuple(one.shape[2:]) for one in features] == [(4, 4), (8, 8), (16, 16), (32, 32)]
        decoder = net.generator
        latents = decoder.copies(decoder.style(z))
        other = [torch.randn_like(one) for one in features]
        assert torch.equal(decoder.decode(latents, features), decoder.decode(latents, other))
        stirred(net)
        for level in range(4):
            changed = [one if n != level else one + 1 for n, one in enumerate(features)]
            assert not torch.equal(decoder.decode(latents, features), decoder.decode(latents, changed))

    def test_is_its_parts(self):
        net = stirred(tiny())
        lq = torch.rand(2, 3, 32, 32)
        features, z = net.encode(2 * lq - 1)
        restored, latents = net.restore_with_latents(lq)
        torch.testing.assert_close(restored, net.generator(z, features))
        torch.testing.assert_close(latents, net.generator.style(z)[:, None].expand(-1, 8, -1))


class TestDecoder:
    def test_needs_no_noise_given(self):
        decoder = stirred(tiny(StyleDecoder))
        z = torch.randn(2, 512)
        assert decoder(z).shape == (2, 3, 32, 32)
        assert not torch.equal(decoder(z), decoder(z))  # drawn afresh
        noise = [torch.randn(2, *shape) for shape in decoder.noise_shapes]
        assert torch.equal(decoder(z, noise), decoder(z, noise))

    def test_codes_count_by_their_direction(self):
        decoder, z = tiny(StyleDecoder), torch.randn(2, 512)
        noise = [torch.zeros(2, *shape) for shape in decoder.noise_shapes]
        torch.testing.assert_close(decoder(z, noise), decoder(3 * z, noise))

    def test_each_latent_has_its_place(self):
        """Place 0: the 4x4 convolution, 1: its to-RGB and the first enlarging one, ..., the last: a to-RGB alone."""
        decoder = stirred(tiny(StyleDecoder))
        latents = decoder.copies(decoder.style(torch.randn(1, 512)))
        assert latents.shape == (1, 8, 512)  # 2 n - 2 at 2^n px
        noise = [torch.zeros(1, *shape) for shape in decoder.noise_shapes]
        seen = {}
        layers = [decoder.conv1, decoder.to_rgb1, *decoder.convs, *decoder.to_rgbs]
        handles = [
            layer.register_forward_pre_hook(lambda module, inputs: seen.update({module: inputs[1]})) for layer in layers
        ]
        marked = latents + torch.arange(8.0).view(1, 8, 1)
        decoder.decode(marked, noise)
        for handle in handles:
            handle.remove()
        places = [round((seen[layer] - latents[:, 0]).mean().item()) for layer in layers]
        assert places == [0, 1, 1, 2, 3, 4, 5, 6, 3, 5, 7]

    def test_vanilla_noise_has_one_channel(self):
        assert tiny(StyleDecoder, isconcat=False).noise_shapes == [(1, 4, 4), (1, 8, 8), (1, 16, 16), (1, 32, 32)]
        assert tiny(StyleDecoder).noise_shapes == [(8, 4, 4), (8, 8, 8), (8, 16, 16), (8, 32, 32)]


class TestDiscriminator:
    @pytest.mark.parametrize("compare", [True, False])
    def test_looks_at_the_batch_if_told(self, compare):
        judge = stirred(tiny(StyleDiscriminator, compare_batch=compare)).double()
        pictures = torch.rand(3, 3, 32, 32, dtype=torch.float64)
        logits = judge(pictures)
        assert logits.shape == (3, 1)
        assert torch.allclose(judge(pictures[:2]), logits[:2], rtol=1e-9) != compare

    def test_both_ways_have_the_same_weights(self):
        one, other = (tiny(StyleDiscriminator, compare_batch=compare) for compare in (True, False))
        other.load_state_dict(one.state_dict())
