"""What a restorer and its discriminator start from."""

import pytest
import torch
from safetensors.torch import save_file
from tiny_gan import NARROW, SIZE, gpen_gan, prior, rrdb_gan, stirred

from ddpm_pairs.restoration.initial_weights import start_decoder, start_discriminator, start_network
from ddpm_pairs.restoration.networks.gpen import GPEN, StyleDecoder


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def gpen(seed, **options):
    torch.manual_seed(seed)
    return stirred(GPEN(SIZE, 1, NARROW, **options))


class TestNetwork:
    def test_from_a_restorer(self, tmp_path):
        torch.save({"g_ema": gpen(1).state_dict(), "g": gpen(2).state_dict()}, tmp_path / "x.pth")
        net = gpen(0)
        start_network(net, str(tmp_path / "x.pth"))
        assert same(net, gpen(1))

    def test_gpen_from_a_prior_keeps_its_encoder(self, tmp_path):
        source = prior(seed=3)
        torch.save({"state_dict": source.state_dict(), "ddpm_pairs": {"kind": "prior"}}, tmp_path / "x.ckpt")
        net = gpen(0)
        start_network(net, str(tmp_path / "x.ckpt"))
        assert same(net.generator, source.net)
        assert same(net.ecd0, gpen(0).ecd0)

    def test_decoder_from_stylegan2(self, tmp_path):
        """Its files also hold the noise that was fixed when they were written."""
        torch.manual_seed(5)
        source = StyleDecoder(SIZE, 1, NARROW, isconcat=False)
        noise = {"noises.noise_0": torch.randn(1, 1, 4, 4)}
        torch.save({"g_ema": source.state_dict() | noise}, tmp_path / "x.pt")
        decoder = StyleDecoder(SIZE, 1, NARROW, isconcat=False)
        start_decoder(decoder, str(tmp_path / "x.pt"))
        assert same(decoder, source)
        with pytest.raises(ValueError, match="does not fit the StyleDecoder of the config: size mismatch") as caught:
            start_decoder(StyleDecoder(SIZE, 1, NARROW), str(tmp_path / "x.pt"))
        assert "\n" not in str(caught.value)

    def test_of_another_width(self, tmp_path):
        torch.save(GPEN(SIZE, 1, 2 * NARROW).state_dict(), tmp_path / "x.pth")
        with pytest.raises(ValueError, match="init_from .*x.pth does not fit the GPEN of the config"):
            start_network(gpen(0), str(tmp_path / "x.pth"))

    def test_missing(self):
        with pytest.raises(ValueError, match="nowhere.pth does not exist"):
            rrdb_gan(init_from="nowhere.pth")


class TestDiscriminator:
    def test_the_trained_one_not_its_average(self, tmp_path):
        average, trained = prior(1).state_dict(), prior(2).state_dict()
        content = {"state_dict": average, "current_model_state": trained, "ddpm_pairs": {"kind": "prior"}}
        torch.save(content, tmp_path / "x.ckpt")
        module = gpen_gan(0, discriminator_from=str(tmp_path / "x.ckpt"))
        assert same(module.discriminator, prior(2).discriminator)

    @pytest.mark.parametrize("form", ["params.pth", "bare.pth", "bare.safetensors", "d.pt"])
    def test_weights_alone(self, tmp_path, form):
        source, path = gpen_gan(7) if form == "d.pt" else rrdb_gan(7), tmp_path / form
        weights = source.discriminator.state_dict()
        if form == "bare.safetensors":
            save_file(weights, path)
        elif form == "d.pt":
            torch.save({"g": gpen(1).state_dict(), "g_ema": gpen(2).state_dict(), "d": weights}, path)
        else:
            torch.save({"params": weights} if form == "params.pth" else weights, path)
        module = gpen_gan(0) if form == "d.pt" else rrdb_gan(0)
        start_discriminator(module.discriminator, str(path))
        assert same(module.discriminator, source.discriminator)

    def test_a_generator_is_refused(self, tmp_path):
        torch.save(gpen(1).state_dict(), tmp_path / "x.pth")
        with pytest.raises(ValueError, match="discriminator_from .* does not fit the UNetDiscriminator") as caught:
            rrdb_gan(0, discriminator_from=str(tmp_path / "x.pth"))
        assert "\n" not in str(caught.value)
