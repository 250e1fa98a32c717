"""Compare sets of LQ images with real ones: FID, fid192, KID, and texture on native patches, with the floor."""

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
"""Headers of the cells that ``Realism.cells`` returns."""


@dataclass(frozen=True)
class Realism:
    """Scores of a set of LQ patches against the same number of real ones.

    Attributes:
        fid: FID on the 2048-d layer.
        fid192: FID on the 192-d layer.
        kid: KID on the 2048-d layer.
        chroma_noise: Chroma noise in 8-bit levels.
        power_gaps: Luminance power relative to the real patches in dB, by octave, the finest last.
        psnr: Median PSNR of HQ against upscaled LQ in dB, if the set is the LQ of pairs.
    """

    fid: float
    fid192: float
    kid: float
    chroma_noise: float
    power_gaps: list[float]
    psnr: float | None = None

    def cells(self) -> list[str]:
        """Return the cells of a Markdown table under ``HEADS``."""
        gaps = ", ".join(f"{gap:+.1f}" for gap in self.power_gaps[-3:])
        return [f"{self.fid:.1f}", f"{self.fid192:.2f}", f"{1000 * self.kid:.1f}", f"{self.chroma_noise:.2f}", gaps]


class RealPictures:
    """Real LQ images, the reference for other sets.

    Args:
        folder: Folder of the images.
        n: Number of patches per set; the floor compares two halves of the images with n patches each.
        side: Side of a patch in px.
    """

    def __init__(self, folder: Path, n: int = 500, side: int = 64) -> None:
        self.n, self.side = n, side
        self.network: FeatureNetwork = Inception(weights_path(INCEPTION)).eval()
        self.pictures = read(folder)

    def floor(self) -> Realism:
        """Compare one half of the images with the other."""
        first, second = (native_patches(self.pictures[h::2], n=self.n, seed=1, size=self.side) for h in (0, 1))
        return self._compare(first, self._features(second), band_power(second))

    def compare(self, pictures: list[Tensor]) -> Realism:
        """Compare a set of images (3, H, W) in [0, 1] with the real ones."""
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
    """Read the images of folders, each (3, H, W) in [0, 1], except those smaller than a patch."""
    paths = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    decoded = (torch.from_numpy(decode_picture(path)).permute(2, 0, 1).float() / 255 for path in paths)
    return [picture for picture in decoded if min(picture.shape[1:]) >= side]


def compare(real: RealPictures, pairs: list[Path]) -> Realism:
    """Compare the LQ images of pairs folders with real ones."""
    found = real.compare(read(*(folder / "lq" for folder in pairs)))
    return replace(found, psnr=median_psnr(folder / "manifest.jsonl" for folder in pairs))


def load(path: Path) -> Realism:
    """Read a file that ``kept`` wrote."""
    return Realism(**json.loads(path.read_text()))


def kept(path: Path, find: Callable[[], Realism]) -> Realism:
    """Return the contents of a file; if it does not exist, compute and write them first."""
    if not path.exists():
        write_atomically(path, json.dumps(asdict(find())).encode())
    return load(path)


def realism_table(folder: Path, real: str, kinds: Iterable[str]) -> str:
    """Return the table of sets of LQ compared with the real ones.

    Args:
        folder: Folder of files that ``kept`` wrote, including ``floor.json``.
        real: Label of the floor's row.
        kinds: Sets of pairs, which name the files and the rows.
    """
    rows = [["LQ", "PSNR of a pair", *HEADS], [real, "", *load(folder / "floor.json").cells()]]
    for kind in kinds:
        found = load(folder / f"{kind}.json")
        rows.append([kind, f"{found.psnr:.1f}", *found.cells()])
    return markdown(rows)


def median_psnr(manifests: Iterable[Path]) -> float:
    """Return the median PSNR, in dB, of HQ against upscaled LQ over all pairs of the manifests."""
    lines = [json.loads(line) for path in manifests for line in path.read_text().splitlines()]
    return torch.tensor([line["psnr"] for line in lines]).median().item()
