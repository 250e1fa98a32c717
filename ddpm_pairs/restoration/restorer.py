"""Base class of restorers: validate on crops, test on whole pairs, restore folders."""

import inspect
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
from ddpm_pairs.training.optimizer import check_weights_type


@dataclass(frozen=True)
class Restored:
    """A restored image.

    Attributes:
        key: Key of the LQ image.
        pixels: uint8 (3, H, W) RGB, or (4, H, W) with alpha if the LQ image had it.
    """

    key: str
    pixels: Tensor


class Restorer(L.LightningModule):
    """Base of the modules that train a restorer; on its own, it validates, tests, and predicts.

    Images are restored in float32 at any Trainer precision, because bfloat16 has fewer levels than an 8-bit image.

    Args:
        net: Any ``nn.Module`` with ``forward(lq) -> restored`` on (N, 3, h, w) in [0, 1]. Optional attributes:
            ``scale`` (output side over input side, default 1), ``multiple`` (input sides must be multiples of it,
            default 1), ``side`` (the only input side, default ``None``), and ``tiling``, see ``restore_picture``.
        tile: Side in LQ pixels above which an image is restored in tiles of this side; ``None`` never uses tiles.
        overlap: LQ pixels by which tiles overlap and are blended.

    Attributes:
        restored_dir: Folder of images that an earlier test restored, as ``<key>.png``, which are used again; ``None``
            restores all.

    Raises:
        UserError: If a value is out of range, or the network does not restore images.
    """

    verb_jobs: ClassVar = dict.fromkeys(("validate", "test", "predict"), "ddpm_pairs.cli.jobs.restore")

    def __init__(self, net: nn.Module, tile: int | None = 256, overlap: int = 32) -> None:
        super().__init__()
        if overlap < 0 or (tile is not None and tile <= 2 * overlap):
            raise UserError(f"--model.tile: got {tile}; expected more than twice --model.overlap, which is {overlap}")
        complete(net)
        self.net, self.tile, self.overlap = net, tile, overlap
        self.restored_dir: Path | None = None

    def check(self, scale: int | None, crop_size: int | None = None) -> None:
        """Check that the network fits the data.

        Args:
            scale: HQ side over LQ side; ``None`` if there is no HQ.
            crop_size: Side of the HQ crops in training; ``None`` otherwise.

        Raises:
            UserError: If the scale or the crop size does not fit the network.
        """
        if scale is not None and scale != self.net.scale:
            own = "" if type(self.net).__module__.startswith("ddpm_pairs.") else " (its attribute `scale`, default 1)"
            raise UserError(
                f"the pairs are x{scale}, the network x{self.net.scale}{own}; use a network of the same scale"
            )
        if crop_size is not None and self.net.side not in (None, crop_size):
            raise UserError(
                f"--data.crop_size: got {crop_size}; expected {self.net.side}, the only side that the network accepts"
            )

    def check_run(self, run: Run) -> None:
        """Check that the network fits the data of a run; see ``check``.

        Raises:
            UserError: If it does not fit, or validation or a test has no pairs.
        """
        check_weights_type(run.trainer)
        if run.verb == "predict":
            return
        if run.verb != "fit" and not hasattr(run.data, "scale"):
            raise UserError(
                f"--data: got {type(run.data).__name__}; `{run.verb}` compares restored images with HQ, so it expects "
                "RestorationPairs, or a DataModule of your own with a `scale`"
            )
        crop_size = getattr(run.data, "crop_size", None) if run.verb == "fit" else None
        self.check(getattr(run.data, "scale", None), crop_size)

    def setup(self, stage: str) -> None:
        """Convert the network to channels_last, for fast convolutions."""
        to_channels_last(self.net)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """Restore a batch of crops; ``Evaluation`` scores the returned batch."""
        return batch | {"restored": self.restore(batch["lq"])}

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """Restore one whole image, a batch of 1; ``Evaluation`` scores the returned batch."""
        before = None if self.restored_dir is None else self.restored_dir / f"{batch['key'][0]}.png"
        if before is not None and before.is_file():
            restored = torch.from_numpy(decode_picture(before)).permute(2, 0, 1).to(self.device).float() / 255
        else:
            restored = self._restore_whole(batch["lq"][0])
        return batch | {"restored": restored[None]}

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> tuple[list[Restored], list[Failure]]:
        """Restore the LQ images of a batch of ``RestorationPairs``; return them and the failures."""
        restored, failures = [], list(batch["failures"])
        for image in batch["pictures"]:
            height, width = image.lq.shape[1:]
            if self.net.side is not None and height != width:
                reason = f"{width}x{height}: the network takes square, aligned images, such as faces"
                failures.append(Failure(image.source, reason))
                continue
            pixels = eight_bit(self._restore_whole(image.lq.float() / 255))
            if image.alpha is not None:
                alpha = F.interpolate(image.alpha[None, None].float(), size=pixels.shape[1:], mode="bicubic")[0]
                pixels = torch.cat([pixels, alpha.clamp(0, 255).round().to(torch.uint8)])
            restored.append(Restored(image.key, pixels.cpu()))
        return restored, failures

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record the kind of the checkpoint."""
        checkpoint["ddpm_pairs"] = {"kind": "restorer"}

    @torch.no_grad()
    def restore(self, lq: Tensor) -> Tensor:
        """Restore crops (N, 3, h, w) in [0, 1] to (N, 3, H, W), float32 in [0, 1]."""
        with torch.autocast(lq.device.type, enabled=False):
            return self.net(lq.float()).clamp(0, 1)

    @torch.no_grad()
    def _restore_whole(self, lq: Tensor) -> Tensor:
        """Restore (3, h, w) to (3, H, W); resize it first if the network accepts only one side."""
        side = self.net.side
        if side is not None and tuple(lq.shape[1:]) != (side, side):
            lq = F.interpolate(lq[None], size=(side, side), mode="bicubic", antialias=True)[0].clamp(0, 1)
        with torch.autocast(lq.device.type, enabled=False):
            return restore_picture(self.net, lq.float(), self.tile, self.overlap).clamp(0, 1)


def complete(net: nn.Module) -> None:
    """Set the attributes that a network of your own leaves out to their defaults, and check those that it has.

    Args:
        net: The network; changed in place.

    Raises:
        UserError: If ``forward`` does not take one batch of images, or an attribute is not a positive integer.
    """
    try:
        inspect.signature(net.forward).bind(None)
    except TypeError as error:
        raise UserError(
            f"--model.net: got {type(net).__name__}, whose forward does not take images alone ({error}); expected a "
            "restorer's network (its debug overlays are parts/debug_rrdb.yaml and parts/debug_gpen.yaml)"
        ) from None
    for name, default in (("scale", 1), ("multiple", 1), ("side", None)):
        if not hasattr(net, name):
            setattr(net, name, default)
        value = getattr(net, name)
        if value is not default and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise UserError(f"--model.net: got {type(net).__name__} with {name} {value!r}; expected an integer above 0")


def to_channels_last(net: nn.Module) -> None:
    """Convert a network's 4-D weights to channels_last, in place; others, such as GPEN's 5-D ones, are unchanged."""
    for parameter in net.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
