"""ReDegNet's discriminator."""

import torch
from torch import Tensor, nn

from ddpm_pairs.degradations.learned.redegnet.blocks import SLOPE, ResidualBlock, signed, spectral_conv


class SynD(nn.Module):
    """Judge whether LQ belongs to HQ and a code (10.37 M parameters by default).

    Args:
        width: Channels at full size; they double at each of three halvings.
        code: Length of codes.
    """

    def __init__(self, width: int = 64, code: int = 512) -> None:
        super().__init__()
        wide = 8 * width
        blocks = [ResidualBlock(width * 2**n, width * min(2 ** (n + 1), 8), down=True) for n in range(4)]
        self.features = nn.Sequential(*spectral_conv(6, width), *blocks, *spectral_conv(wide, wide))
        self.judge = nn.Sequential(nn.Linear(wide + code, code), nn.LeakyReLU(SLOPE), nn.Linear(code, 1))

    def forward(self, lq: Tensor, hq: Tensor, codes: Tensor) -> Tensor:
        """Judge LQ and HQ, both (N, 3, H, W) in [0, 1], and codes (N, code), which get no gradient.

        Returns:
            (N, 1), the logits of LQ being real.
        """
        pooled = self.features(signed(torch.cat([lq, hq], dim=1))).mean((2, 3))
        return self.judge(torch.cat([pooled, codes.detach().to(pooled.dtype)], dim=1))
