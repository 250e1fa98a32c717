"""What the t study has finished, picture by picture, so that an interrupted study goes on."""

import json
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ddpm_pairs.errors import UserError

SETTINGS = "study.json"


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


class StudyFolder:
    """The folder of a study.

    Args:
        root: ``--output_dir``.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.pictures = root, root / "pictures"

    def settings(self) -> dict[str, Any]:
        """What the study was begun with; empty where there is none, or its file cannot be read."""
        path = self.root / SETTINGS
        try:
            return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
        except (ValueError, TypeError):
            return {}

    def check(self, settings: dict[str, Any]) -> None:
        """Refuse to go on with a study of other settings.

        Raises:
            UserError: naming the first setting that differs.
        """
        if not (self.root / SETTINGS).is_file():
            return
        earlier = self.settings()
        for name, value in json.loads(json.dumps(settings)).items():
            if earlier.get(name) != value:
                raise UserError(
                    f"--output_dir {self.root} holds a study made otherwise ({name} {earlier.get(name)} -> {value}): "
                    "give another folder, or the same settings to go on with it"
                )

    def open(self, settings: dict[str, Any]) -> None:
        """Make the folder and write down the settings."""
        self.pictures.mkdir(parents=True, exist_ok=True)
        (self.root / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

    def has(self, key: str) -> bool:
        """Whether a picture is finished."""
        return self._path(key).is_file()

    def save(self, result: PictureResult) -> None:
        """Keep a finished picture; the file appears whole or not at all."""
        tensors = {"hq": result.hq, "patches": result.patches, "psnr": result.psnr}
        tensors |= {f"features.{name}": values for name, values in result.features.items()}
        path = self._path(result.key)
        beside = path.with_suffix(".tmp")
        save_file({name: values.contiguous() for name, values in tensors.items()}, beside, {"key": result.key})
        beside.replace(path)

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
