"""What all restorers share: a network that is validated on crops, tested on whole pairs, and restores folders."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_pairs.errors import UserError
from ddpm_pairs.images.decode import decode_picture
from ddpm_pairs.images.find import Failure
from ddpm_pairs.images.pixels import eight_bit
from ddpm_pairs.images.tiling import restore_picture
from ddpm_pairs.run import Run


@dataclass(frozen=True)
class Restored:
    """A restored picture.

    Attributes:
        key: The LQ picture's key.
        pixels: uint8 (3, H, W) RGB, or (4, H, W) with the alpha plane where LQ had one.
    """

    key: str
    pixels: Tensor


class Restorer(L.LightningModule):
    """Base of the modules that train a restorer; on its own it tests and predicts.

    Pictures are restored in float32 whatever the Trainer's precision, since bfloat16 has fewer levels than a picture.

    Args:
        net: Any ``nn.Module`` with ``forward(lq) -> restored`` on (N, 3, h, w) in [0, 1] and the attributes ``scale``,
            ``multiple`` (input sides must divide by it) and ``side`` (the only input side it takes, or ``None``);
            optionally ``tiling``, see ``restore_picture``.
        tile: LQ pixels a side above which a picture is restored in tiles of this side; ``None`` never does.
        overlap: LQ pixels by which tiles overlap, where they are blended.

    Attributes:
        restored_dir: Where a test finds images that it has restored before, as ``<key>.png``; ``None``: nowhere.

    Raises:
        UserError: If a value is out of range.
    """

    verb_jobs: ClassVar = dict.fromkeys(("validate", "test", "predict"), "ddpm_pairs.cli.jobs.restore")

    def __init__(self, net: nn.Module, tile: int | None = 256, overlap: int = 32) -> None:
        super().__init__()
        if overlap < 0 or (tile is not None and tile <= 2 * overlap):
            raise UserError(f"tile is {tile} and overlap {overlap}: expected a tile of more than twice the overlap")
        self.net, self.tile, self.overlap = net, tile, overlap
        self.restored_dir: Path | None = None

    def check(self, scale: int | None, crop_size: int | None = None) -> None:
        """Compare the network with the data.

        Args:
            scale: HQ sides over LQ sides; ``None`` where there is no HQ.
            crop_size: Side of the HQ crops in training; ``None`` outside of it.

        Raises:
            UserError: if they do not fit.
        """
        if scale is not None and scale != self.net.scale:
            raise UserError(f"the pairs are x{scale}, the network x{self.net.scale}: give the network the same scale")
        if crop_size is not None and self.net.side not in (None, crop_size):
            raise UserError(
                f"--data.crop_size is {crop_size}, the network takes pictures of {self.net.side} px only: give that"
            )

    def check_run(self, run: Run) -> None:
        """Compare the network with the data of a run; see ``check``.

        Raises:
            UserError: If they do not fit, or the data holds no pairs to compare with.
        """
        if run.verb == "predict":
            return
        if run.verb != "fit" and not hasattr(run.data, "scale"):
            raise UserError(
                f"`{run.verb}` compares restored images with HQ, --data is {type(run.data).__name__}: "
                "expected RestorationPairs, or pairs of your own with a `scale`"
            )
        crop_size = getattr(run.data, "crop_size", None) if run.verb == "fit" else None
        self.check(getattr(run.data, "scale", None), crop_size)

    def setup(self, stage: str) -> None:
        """channels_last for fast convolutions."""
        to_channels_last(self.net)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """Restore a batch of crops; ``Evaluation`` scores what is returned."""
        return batch | {"restored": self._restore(batch["lq"])}

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """Restore one whole picture, a batch of 1; ``Evaluation`` scores what is returned."""
        before = None if self.restored_dir is None else self.restored_dir / f"{batch['key'][0]}.png"
        if before is not None and before.is_file():
            restored = torch.from_numpy(decode_picture(before)).permute(2, 0, 1).to(self.device).float() / 255
        else:
            restored = self._restore_whole(batch["lq"][0])
        return batch | {"restored": restored[None]}

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> tuple[list[Restored], list[Failure]]:
        """Restore the pictures of a batch of ``RestorationPairs``, and say which could not be."""
        restored, failures = [], list(batch["failures"])
        for picture in batch["pictures"]:
            height, width = picture.lq.shape[1:]
            if self.net.side is not None and height != width:
                reason = f"{width}x{height}: the network takes square, aligned pictures, such as faces"
                failures.append(Failure(picture.source, reason))
                continue
            pixels = eight_bit(self._restore_whole(picture.lq.float() / 255))
            if picture.alpha is not None:
                alpha = F.interpolate(picture.alpha[None, None].float(), size=pixels.shape[1:], mode="bicubic")[0]
                pixels = torch.cat([pixels, alpha.clamp(0, 255).round().to(torch.uint8)])
            restored.append(Restored(picture.key, pixels.cpu()))
        return restored, failures

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say what the checkpoint is."""
        checkpoint["ddpm_pairs"] = {"kind": "restorer"}

    @torch.no_grad()
    def _restore(self, lq: Tensor) -> Tensor:
        with torch.autocast(lq.device.type, enabled=False):
            return self.net(lq.float()).clamp(0, 1)

    @torch.no_grad()
    def _restore_whole(self, lq: Tensor) -> Tensor:
        """(3, h, w) to (3, H, W), brought to the network's only side first where it has one."""
        side = self.net.side
        if side is not None and tuple(lq.shape[1:]) != (side, side):
            lq = F.interpolate(lq[None], size=(side, side), mode="bicubic", antialias=True)[0].clamp(0, 1)
        with torch.autocast(lq.device.type, enabled=False):
            return restore_picture(self.net, lq.float(), self.tile, self.overlap).clamp(0, 1)


def to_channels_last(net: nn.Module) -> None:
    """Lay out a network's convolutions channels_last, in place; other weights (GPEN has 5-D ones) stay as they are."""
    for parameter in net.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
