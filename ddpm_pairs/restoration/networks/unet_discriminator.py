"""The U-Net discriminator of Real-ESRGAN, with spectral normalization."""

import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_pairs.layers.spectral import SpectralConv2d

SLOPE = 0.2


class UNetDiscriminator(nn.Module):
    """Classify every pixel as real or generated (Real-ESRGAN, arXiv 2107.10833, section 3.3).

    The weights have their official names and shapes, so released ``netD`` files can be loaded.

    Args:
        nf: Channels at full size. They double each time the sides are halved, three times in all.

    Attributes:
        multiple: Input sides must be multiples of this.
    """

    multiple = 8

    def __init__(self, nf: int = 64) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, nf, 3, padding=1)
        self.conv1 = SpectralConv2d(nf, 2 * nf, 4, stride=2)
        self.conv2 = SpectralConv2d(2 * nf, 4 * nf, 4, stride=2)
        self.conv3 = SpectralConv2d(4 * nf, 8 * nf, 4, stride=2)
        self.conv4 = SpectralConv2d(8 * nf, 4 * nf, 3)
        self.conv5 = SpectralConv2d(4 * nf, 2 * nf, 3)
        self.conv6 = SpectralConv2d(2 * nf, nf, 3)
        self.conv7 = SpectralConv2d(nf, nf, 3)
        self.conv8 = SpectralConv2d(nf, nf, 3)
        self.conv9 = nn.Conv2d(nf, 1, 3, padding=1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Classify the pixels of images.

        Args:
            pictures: (N, 3, H, W) in [0, 1], with sides that are multiples of 8.

        Returns:
            (N, 1, H, W), the logits of each pixel being real.
        """
        features = F.leaky_relu(self.conv0(pictures), SLOPE)
        skips = []
        for shrink in (self.conv1, self.conv2, self.conv3):
            skips.append(features)
            features = F.leaky_relu(shrink(features), SLOPE)
        for enlarge in (self.conv4, self.conv5, self.conv6):
            features = F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
            features = F.leaky_relu(enlarge(features), SLOPE) + skips.pop()
        for conv in (self.conv7, self.conv8):
            features = F.leaky_relu(conv(features), SLOPE)
        return self.conv9(features)
