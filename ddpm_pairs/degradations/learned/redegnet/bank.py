"""A bank of codes: degradations that ReDegNet read from faces, rendered on any image."""

import math
from typing import Any

import torch
from torch import Tensor

from ddpm_pairs.degradations.base import check_scale
from ddpm_pairs.degradations.learned.redegnet.networks import DEEPEST, SynNet, checked_sizes
from ddpm_pairs.degradations.learned.synthesizer import Synthesizer
from ddpm_pairs.degradations.ops.draws import chance, choice
from ddpm_pairs.degradations.ops.draws import seed as draw_seed
from ddpm_pairs.degradations.ops.noise import add_noise
from ddpm_pairs.degradations.ops.resize import resize
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.pixels import pad_to_canvas
from ddpm_pairs.images.tiling import restore_picture

RESAMPLINGS = ("bilinear", "bicubic")

NOISY = 0.4
"""Share of images that get noise."""

NOISE_LEVELS = [round(1.275 * hundredth, 3) for hundredth in range(21)]
"""Standard deviations of the noise in 8-bit units: 0, 0.01, ..., 0.20 of the range [-1, 1]."""


class CodeBank(Synthesizer):
    """Render HQ with a random code of the bank, and resample it to HQ / scale.

    ``ddpm-pairs bank`` makes it from a fit of ReDegNet and faces. As in the released training of F2N-ESRGAN, the
    rendered image, which is LQ enlarged to the HQ grid, is resampled bilinearly or bicubically. An enlarged LQ has no
    detail that antialiasing would have to remove; it would only blur LQ once more. So neither is antialiased.

    SynNet has seen crops of ``size`` px, and its receptive field is larger than they are. Smaller images are padded to
    this size by reflection. Larger ones are rendered in tiles of this size, which overlap by a quarter and are blended.
    With a small SynNet after 500 iterations (tiles of 64 px, four photographs, four degradations), tiles differed from
    the whole image by 0.4 levels of 255 on average and 2 at most, pixels jumped no more at seams than elsewhere, and
    the distance to the true LQ was the same. With an overlap of half a tile, it was 0.3 and 2 levels; without overlap,
    1.1 and 35.

    Args:
        scale: HQ sides over LQ sides: 1, 2 or 4.
        sources: Where each code was read, such as ``album/photo.jpg#2``.
        width: As in ``ReDegNet``.
        levels: As in ``ReDegNet``.
        code: As in ``ReDegNet``.
        residual: As in ``SynNet``.
        noise: Add white Gaussian noise to 40% of the rendered images, before resampling. Each of the standard
            deviations 0 to 0.2 of the range [-1, 1], in steps of 0.01, is equally likely. In the released training, it
            keeps restorers from reading hidden information in LQ.

    Attributes:
        codes: (number of sources, code).
        size: Side in HQ px of the crops that SynNet was trained with, and of tiles.

    Raises:
        UserError: If a size is out of range, or there is no source.
    """

    name = "redegnet"

    def __init__(
        self,
        scale: int,
        sources: list[str],
        width: int = 64,
        levels: int = 6,
        code: int = 512,
        residual: bool = False,
        noise: bool = False,
    ) -> None:
        sizes = checked_sizes(width, levels, code)
        if not sources:
            raise UserError("CodeBank.sources: got none; expected the source of each code")
        options = {"residual": residual, "noise": noise}
        super().__init__(check_scale(self.name, scale), {"scale": scale, "sources": list(sources), **sizes, **options})
        self.sources, self.noise = list(sources), noise
        self.syn = SynNet(**sizes, residual=residual)
        self.register_buffer("codes", torch.zeros(len(sources), code))
        self.multiple = math.lcm(self.syn.multiple, scale)
        self.size = DEEPEST * 2**levels

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Draw a code (its index and source), how to resample, and the noise (8-bit units), if there is any."""
        code = int(torch.randint(len(self.sources), (), generator=generator))
        drawn = {"code": code, "source": self.sources[code], "resampling": choice(generator, RESAMPLINGS)}
        if self.noise:
            level = choice(generator, NOISE_LEVELS) if chance(generator, NOISY) else 0.0
            drawn |= {"noise": level, "noise_seed": draw_seed(generator)}
        return drawn

    def synthesize(self, hq: Tensor, parameters: dict[str, Any]) -> Tensor:
        """Degrade an image; see ``Synthesizer.synthesize``."""
        lq = self.render(hq, self.codes[parameters["code"]]).clamp(0, 1)
        if parameters.get("noise"):
            noise = {"kind": "gaussian", "level": parameters["noise"], "gray": False}
            lq = add_noise(lq, noise | {"noise_seed": parameters["noise_seed"]})
        return resize(lq, (hq.shape[-2] // self.scale, hq.shape[-1] // self.scale), parameters["resampling"])

    def render(self, hq: Tensor, code: Tensor) -> Tensor:
        """Render an image with a code.

        Args:
            hq: (1, 3, H, W) in [0, 1]; sides are multiples of ``multiple``.
            code: (code,).

        Returns:
            (1, 3, H, W), nominally in [0, 1].
        """
        height, width = hq.shape[-2:]
        padded = pad_to_canvas(hq, (max(height, self.size), max(width, self.size)))
        rendered = restore_picture(_WithCode(self.syn, code), padded[0], self.size, self.size // 4)
        return rendered[None, :, :height, :width]


class _WithCode:
    """SynNet with one code, as ``restore_picture`` uses networks."""

    scale, side = 1, None

    def __init__(self, syn: SynNet, code: Tensor) -> None:
        self.syn, self.code, self.multiple = syn, code[None], syn.multiple

    def __call__(self, hq: Tensor) -> Tensor:
        """(1, 3, H, W) -> (1, 3, H, W)."""
        return self.syn(hq, self.code)
