"""The contact sheet of a bank: one HQ image rendered with up to sixteen codes, next to the faces they come from."""

from pathlib import Path
from typing import NamedTuple

import skimage.data
import torch
from PIL import Image
from torch import Tensor

from ddpm_pairs.degradations.learned.degradation import Learned
from ddpm_pairs.degradations.learned.redegnet.bank import CodeBank
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.decode import decode_picture
from ddpm_pairs.images.pixels import eight_bit
from ddpm_pairs.reports.contact_sheet import Entry, save_sheet

SHOWN = 16
HQ_SIDE = 256
"""Side in px of the HQ that is shown, if the image is large enough; a sheet shows whole images of this size."""


class Shown(NamedTuple):
    """A code to show.

    Attributes:
        code: Its index.
        face: The LQ face in its own pixels, uint8 (3, h, w).
        text: What was measured on the face.
    """

    code: int
    face: Tensor
    text: str


def hq_to_show(path: Path | None, multiple: int) -> Tensor:
    """Return the center of an HQ image, uint8 (3, S, S), S a multiple of ``multiple``.

    Args:
        path: The image; ``None`` takes a photograph of a cat from scikit-image.
        multiple: See above.

    Raises:
        UserError: If the file is not an image, or is too small.
    """
    if path is None:
        pixels = skimage.data.chelsea()
    elif path.is_file():
        pixels = decode_picture(path)
    else:
        raise UserError(f"--hq: got {path}, which is not a file; expected an image")
    image = torch.from_numpy(pixels).permute(2, 0, 1)
    height, width = image.shape[1:]
    side = min(height, width, max(HQ_SIDE, multiple)) // multiple * multiple
    if side == 0:
        raise UserError(f"--hq: got {width}x{height} px; expected {multiple} px or more per side")
    top, left = (height - side) // 2, (width - side) // 2
    return image[:, top : top + side, left : left + side]


def save_bank_sheet(path: Path, bank: CodeBank, hq: Tensor, shown: list[Shown], place: str) -> None:
    """Draw the sheet: HQ, then each face with HQ rendered with its code, resampled bicubically, without noise.

    Args:
        path: The PNG to write.
        bank: The bank, on any device.
        hq: See ``hq_to_show``.
        shown: The codes to show.
        place: Name of the folder of faces, for the title.
    """
    degradation, pixels = Learned(bank), hq[None].to(bank.codes.device).float() / 255
    entries = [Entry((None, _image(hq)), "the HQ image", f"{hq.shape[2]}x{hq.shape[1]} px")]
    for code, face, text in shown:
        (lq,) = degradation.apply(pixels, [{"code": code, "resampling": "bicubic"}])
        entries.append(Entry((_image(face), _image(eight_bit(lq).cpu())), bank.sources[code], text))
    codes = "1 code" if len(bank.codes) == 1 else f"{len(bank.codes)} codes"
    save_sheet(path, entries, ("LQ face", "HQ with its code"), f"{place}: {codes}, scale {bank.scale}")


def _image(pixels: Tensor) -> Image.Image:
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
