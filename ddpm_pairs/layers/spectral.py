"""Convolutions with spectral normalization."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-12


class SpectralConv2d(nn.Conv2d):
    """Convolution whose weight is divided by its largest singular value (arXiv 1802.05957).

    It computes the same result as ``torch.nn.utils.spectral_norm`` and uses the same names in checkpoints
    (``weight_orig``, ``weight_u``, ``weight_v``), but it can be deep-copied after a forward pass. torch's cannot,
    because it stores the normalized weight as an attribute.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the kernel. The input is padded with zeros, so that the output has 1 / ``stride`` of its
            sides.
        stride: Step between output pixels, in input pixels.
        bias: Whether to add a learned number per output channel.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, bias: bool = False
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, (kernel_size - 1) // 2, bias=bias)
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
        return self._conv_forward(x, weight, self.bias)

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
