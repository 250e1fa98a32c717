"""The U-Net discriminator of Real-ESRGAN, with spectral normalization."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2
EPSILON = 1e-12


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


class SpectralConv2d(nn.Conv2d):
    """Convolution without bias whose weight is divided by its largest singular value (arXiv 1802.05957).

    It computes the same result as ``torch.nn.utils.spectral_norm`` and uses the same names in checkpoints
    (``weight_orig``, ``weight_u``, ``weight_v``), but it can be deep-copied after a forward pass. torch's cannot,
    because it stores the normalized weight as an attribute.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the kernel. The input is padded with one pixel of zeros.
        stride: Step between output pixels, in input pixels.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding=1, bias=False)
        weight = self.weight
        del self.weight
        self.weight_orig = weight
        rows, columns = weight.flatten(1).shape
        self.register_buffer("weight_u", F.normalize(torch.randn(rows), dim=0, eps=EPSILON))
        self.register_buffer("weight_v", F.normalize(torch.randn(columns), dim=0, eps=EPSILON))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve; in training, first update ``weight_u`` and ``weight_v`` by one power iteration."""
        with torch.autocast(x.device.type, enabled=False):
            weight = self.weight_orig / self._singular_value()
        return self._conv_forward(x, weight, None)

    def _singular_value(self) -> Tensor:
        matrix = self.weight_orig.flatten(1)
        # Copies, because DDP or a second forward pass before the backward pass overwrites the buffers in place.
        u, v = self.weight_u.clone(), self.weight_v.clone()
        if self.training:
            with torch.no_grad():
                v = F.normalize(torch.mv(matrix.t(), u), dim=0, eps=EPSILON)
                u = F.normalize(torch.mv(matrix, v), dim=0, eps=EPSILON)
                self.weight_u.copy_(u)
                self.weight_v.copy_(v)
        return torch.dot(u, torch.mv(matrix, v))
