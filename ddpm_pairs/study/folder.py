"""The finished images of a t study, one file each, so that an interrupted study can be resumed."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ddpm_pairs.errors import UserError
from ddpm_pairs.files import write_atomically
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
        self.pictures = root / "pictures"

    def check(self, settings: Mapping[str, Any]) -> None:
        """Refuse a folder that cannot be resumed with these settings; see ``RunFolder.check``."""
        earlier = self.settings()
        if earlier is not None and "starts" not in earlier:
            raise UserError(
                f"--output_dir {self.root} contains a t study that was started by an older version, which drew noise "
                "differently; finish it with that version, or give another folder"
            )
        super().check(settings)

    def has(self, key: str) -> bool:
        """Whether an image is finished."""
        return self._path(key).is_file()

    def save(self, result: PictureResult) -> None:
        """Save a finished image.

        Raises:
            OutputError: If its file cannot be written.
        """
        tensors = {"hq": result.hq, "patches": result.patches, "psnr": result.psnr}
        tensors |= {f"features.{name}": values for name, values in result.features.items()}
        tensors = {name: values.contiguous() for name, values in tensors.items()}
        write_atomically(self._path(result.key), save(tensors, {"key": result.key}), self.rank)

    def load(self, key: str) -> PictureResult:
        """Load a finished image."""
        with safe_open(self._path(key), "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        prefix = "features."
        features = {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}
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
