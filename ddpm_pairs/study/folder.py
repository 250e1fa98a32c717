"""What a t study has finished, image by image, so that an interrupted study is resumed."""

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ddpm_pairs.files import write_atomically
from ddpm_pairs.run_folder import RunFolder


@dataclass(frozen=True)
class PictureResult:
    """One HQ picture in all cells, D degradations by T steps.

    Attributes:
        key: The picture's key.
        hq: Part of HQ that the patches show, uint8 (3, S * scale, S * scale).
        patches: The same native place of every LQ, uint8 (D, T, 3, S, S).
        psnr: HQ against every LQ as a whole, dB, float64 (D, T); infinite for equal ones.
        features: Of the patches, (D, T, d) under each name of ``ddpm_pairs.metrics.features.LAYERS``.
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

    def has(self, key: str) -> bool:
        """Whether a picture is finished."""
        return self._path(key).is_file()

    def save(self, result: PictureResult) -> None:
        """Keep a finished image.

        Raises:
            OutputError: If its file cannot be written.
        """
        tensors = {"hq": result.hq, "patches": result.patches, "psnr": result.psnr}
        tensors |= {f"features.{name}": values for name, values in result.features.items()}
        tensors = {name: values.contiguous() for name, values in tensors.items()}
        write_atomically(self._path(result.key), save(tensors, {"key": result.key}), self.rank)

    def load(self, key: str) -> PictureResult:
        """A finished picture."""
        with safe_open(self._path(key), "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        prefix = "features."
        features = {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}
        return PictureResult(key, tensors["hq"], tensors["patches"], tensors["psnr"], features)

    def _path(self, key: str) -> Path:
        return self.pictures / f"{blake2b(key.encode(), digest_size=16).hexdigest()}.safetensors"


def stack(results: list[PictureResult]) -> PictureResult:
    """All pictures as one, the pictures as a new first dimension; ``key`` is left empty."""
    return PictureResult(
        "",
        torch.stack([one.hq for one in results]),
        torch.stack([one.patches for one in results]),
        torch.stack([one.psnr for one in results]),
        {name: torch.stack([one.features[name] for one in results]) for name in results[0].features},
    )
