"""GPEN and its parts."""

from ddpm_pairs.restoration.networks.gpen.decoder import StyleDecoder
from ddpm_pairs.restoration.networks.gpen.discriminator import StyleDiscriminator
from ddpm_pairs.restoration.networks.gpen.network import GPEN

__all__ = ["GPEN", "StyleDecoder", "StyleDiscriminator"]
