"""How near sets of LQ pictures come to real ones: FID, fid192, KID and texture on native patches, with the floor."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ddpm_pairs.files import write_atomically
from ddpm_pairs.images.decode import decode_picture
from ddpm_pairs.metrics.features import FeatureNetwork, Inception, extract
from ddpm_pairs.metrics.set_scores import set_scores
from ddpm_pairs.metrics.texture import band_power, chroma_noise, native_patches, power_gap_db
from ddpm_pairs.metrics.weights import INCEPTION, weights_path
from results.known_world.gains import markdown

BATCH = 32
HEADS = ["FID", "fid192", "KID x 1000", "chroma noise", "power gap of the 3 finest octaves, dB"]
"""The cells of ``Realism.cells``."""


@dataclass(frozen=True)
class Realism:
    """A set of LQ patches beside as many real ones.

    Attributes:
        fid: At the 2048-d layer.
        fid192: At the 192-d layer.
        kid: At the 2048-d layer.
        chroma_noise: In 8-bit units.
        power_gaps: Luminance power over that of the real ones in dB, by octave, the finest last.
        psnr: Median of HQ against enlarged LQ in dB, where the set is the LQ of pairs.
    """

    fid: float
    fid192: float
    kid: float
    chroma_noise: float
    power_gaps: list[float]
    psnr: float | None = None

    def cells(self) -> list[str]:
        """Cells of a Markdown table under ``HEADS``."""
        gaps = ", ".join(f"{gap:+.1f}" for gap in self.power_gaps[-3:])
        return [f"{self.fid:.1f}", f"{self.fid192:.2f}", f"{1000 * self.kid:.1f}", f"{self.chroma_noise:.2f}", gaps]


class RealPictures:
    """Real LQ pictures that sets are compared with.

    Args:
        folder: Of the pictures.
        n: Patches of each set; the floor compares two halves of the pictures with n patches each.
        side: Of a patch, px.
    """

    def __init__(self, folder: Path, n: int = 500, side: int = 64) -> None:
        self.n, self.side = n, side
        self.network: FeatureNetwork = Inception(weights_path(INCEPTION)).eval()
        self.pictures = read(folder)

    def floor(self) -> Realism:
        """One half of the pictures beside the other."""
        first, second = (native_patches(self.pictures[h::2], n=self.n, seed=1, size=self.side) for h in (0, 1))
        return self._compare(first, self._features(second), band_power(second))

    def compare(self, pictures: list[Tensor]) -> Realism:
        """A set of (3, H, W) in [0, 1] beside the real ones."""
        return self._compare(native_patches(pictures, n=self.n, seed=0, size=self.side), *self._measured)

    @cached_property
    def _measured(self) -> tuple[dict[str, Tensor], Tensor]:
        patches = native_patches(self.pictures, n=self.n, seed=0, size=self.side)
        return self._features(patches), band_power(patches)

    def _compare(self, patches: Tensor, features: dict[str, Tensor], power: Tensor) -> Realism:
        scores = set_scores(self._features(patches), features)
        gaps = power_gap_db(band_power(patches), power).tolist()
        return Realism(scores.fid, scores.fid192, scores.kid, chroma_noise(patches), gaps)

    def _features(self, patches: Tensor) -> dict[str, Tensor]:
        return extract(self.network, (patches * 255).round().to(torch.uint8).split(BATCH))


def read(*folders: Path, side: int = 64) -> list[Tensor]:
    """Pictures (3, H, W) in [0, 1] of folders, without those that are smaller than a patch."""
    paths = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    decoded = (torch.from_numpy(decode_picture(path)).permute(2, 0, 1).float() / 255 for path in paths)
    return [picture for picture in decoded if min(picture.shape[1:]) >= side]


def compare(real: RealPictures, pairs: list[Path]) -> Realism:
    """LQ of pairs folders beside real ones."""
    found = real.compare(read(*(folder / "lq" for folder in pairs)))
    return replace(found, psnr=median_psnr(folder / "manifest.jsonl" for folder in pairs))


def load(path: Path) -> Realism:
    """What ``kept`` wrote."""
    return Realism(**json.loads(path.read_text()))


def kept(path: Path, find: Callable[[], Realism]) -> Realism:
    """What stands in a file, or what is found and then stands there."""
    if not path.exists():
        write_atomically(path, json.dumps(asdict(find())).encode())
    return load(path)


def realism_table(folder: Path, real: str, kinds: Iterable[str]) -> str:
    """Table of sets of LQ beside the real ones.

    Args:
        folder: Of what ``kept`` wrote, ``floor.json`` among it.
        real: What the row of the floor is called.
        kinds: Names of files and rows, sets of pairs.
    """
    rows = [["LQ", "PSNR of a pair", *HEADS], [real, "", *load(folder / "floor.json").cells()]]
    for kind in kinds:
        found = load(folder / f"{kind}.json")
        rows.append([kind, f"{found.psnr:.1f}", *found.cells()])
    return markdown(rows)


def median_psnr(manifests: Iterable[Path]) -> float:
    """Median PSNR, in dB, of HQ against enlarged LQ over the pairs of manifests."""
    lines = [json.loads(line) for path in manifests for line in path.read_text().splitlines()]
    return torch.tensor([line["psnr"] for line in lines]).median().item()
