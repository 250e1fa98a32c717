"""The finished images of a t study, one file each, so that an interrupted study can be resumed."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from ddpm_pairs.diffusion.runtime.runtime import DTYPES
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import write_atomically
from ddpm_pairs.metrics.features import LAYERS
from ddpm_pairs.metrics.tensor_file import encode_tensors, read_tensors
from ddpm_pairs.run_folder import RunFolder


@dataclass(frozen=True)
class PictureResult:
    """The results of one HQ image in all cells, D degradations by T steps.

    Attributes:
        key: The image's key.
        hq: The part of HQ that the patches show, uint8 (3, S * scale, S * scale).
        patches: The same native patch of every LQ, uint8 (D, T, 3, S, S).
        psnr: PSNR of HQ against every whole LQ in dB, float64 (D, T); infinite if they are equal.
        features: Features of the patches, (D, T, d) under each name of ``ddpm_pairs.metrics.features.LAYERS``.
    """

    key: str
    hq: Tensor
    patches: Tensor
    psnr: Tensor
    features: dict[str, Tensor]


class StudyFolder(RunFolder):
    """The folder of a study, with one file for each finished image.

    Args:
        root: ``--output_dir``.
        rank: Rank of this process.
    """

    def __init__(self, root: Path, rank: int = 0) -> None:
        super().__init__(root, "study.json", "a t study", rank)
        self.pictures, self.starts_again = root / "pictures", False
        self._shapes: dict[str, tuple[int, ...]] = {}

    def settings(self) -> dict[str, Any] | None:
        """Return the settings of the study; see ``RunFolder.settings``."""
        settings = super().settings()
        if settings is not None and settings.get("precision") not in (None, *DTYPES):
            raise UserError(f"{self.record} cannot be read (precision: got {ascii(settings['precision'])})")
        return settings

    def check(self, settings: Mapping[str, Any]) -> None:
        """Refuse a folder that cannot be resumed with these settings; see ``RunFolder.check``.

        If its settings cannot be read, its images are made again: nobody knows which settings they were made with.
        """
        cells = len(settings["degradations"]), len(settings["ts"])
        side = settings["patch"]
        self._shapes = {"patches": (*cells, 3, side, side), "hq": (3, *[side * settings["scale"]] * 2), "psnr": cells}
        if self.is_torn():
            rank_zero_warn(f"{self.record} cannot be read, as after a power failure; the study starts again")
            self.starts_again = True
            return
        earlier = self.settings()
        if earlier is not None and "starts" not in earlier:
            raise UserError(
                f"--output_dir {self.root} contains a t study that was started by an older version, which drew noise "
                "differently; finish it with that version, or give another folder"
            )
        super().check(settings)

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Start or resume the study; see ``RunFolder.begin``."""
        if self.starts_again:
            for path in self.pictures.glob("*.safetensors"):
                path.unlink()
        super().begin(settings)

    def has(self, key: str) -> bool:
        """Whether an image is finished."""
        return not self.starts_again and self.load(key) is not None

    def save(self, result: PictureResult) -> None:
        """Save a finished image.

        Raises:
            OutputError: If its file cannot be written.
        """
        tensors = {"hq": result.hq, "patches": result.patches, "psnr": result.psnr}
        tensors |= {f"features.{name}": values for name, values in result.features.items()}
        write_atomically(self._path(result.key), encode_tensors(tensors), self.rank)

    def load(self, key: str) -> PictureResult | None:
        """Load a finished image; ``None`` if it is not finished, or its file is damaged or contains something else."""
        tensors = read_tensors(self._path(key))
        if tensors is None:
            return None
        names = [f"features.{name}" for name in LAYERS]
        shapes = {"hq": (torch.uint8, 3), "patches": (torch.uint8, 5), "psnr": (torch.float64, 2)}
        shapes |= dict.fromkeys(names, (torch.float32, 3))
        if {name: (one.dtype, one.ndim) for name, one in tensors.items()} != shapes:
            return None
        cells = {one.shape[:2] for name, one in tensors.items() if name != "hq"}
        if len(cells) > 1 or any(tensors[name].shape != shape for name, shape in self._shapes.items()):
            return None
        features = dict(zip(LAYERS, (tensors[name] for name in names), strict=True))
        return PictureResult(key, tensors["hq"], tensors["patches"], tensors["psnr"], features)

    def _path(self, key: str) -> Path:
        return self.pictures / f"{blake2b(key.encode(), digest_size=16).hexdigest()}.safetensors"


def stack(results: list[PictureResult]) -> PictureResult:
    """Stack the results of all images along a new first dimension; ``key`` is left empty."""
    return PictureResult(
        "",
        torch.stack([one.hq for one in results]),
        torch.stack([one.patches for one in results]),
        torch.stack([one.psnr for one in results]),
        {name: torch.stack([one.features[name] for one in results]) for name in results[0].features},
    )
