"""Compare the texture of sets of LQ images with real ones: chroma noise and luminance power per octave."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ddpm_pairs.errors import UserError
from ddpm_pairs.metrics.texture import band_names, band_power, chroma_noise, halves, native_patches, power_gap_db

PATCH_SIDES = (64, 32, 16)
MOST_PATCHES = 512


@dataclass(frozen=True)
class TextureRow:
    """A set of images compared with the real one.

    Attributes:
        name: Name of the set.
        chroma_noise: Chroma noise in 8-bit units, see ``ddpm_pairs.metrics.texture.chroma_noise``.
        chroma_gap: Chroma noise minus that of the real images.
        power_gaps: Luminance power relative to the real images in dB, one value per octave, the finest last.
    """

    name: str
    chroma_noise: float
    chroma_gap: float
    power_gaps: tuple[float, ...]


@dataclass(frozen=True)
class TextureGap:
    """The gaps between several sets and the real images.

    Attributes:
        real_chroma_noise: Chroma noise of the real images in 8-bit units.
        rows: One row per set, in the order given.
        floor: One half of the real images compared with the other; gaps of this size mean nothing. ``None`` if there
            is only one real image.
        patches: Number of patches from each set.
        side: Their side in pixels.
    """

    real_chroma_noise: float
    rows: tuple[TextureRow, ...]
    floor: TextureRow | None
    patches: int
    side: int


def texture_gap(real: Sequence[Tensor], sets: Mapping[str, Sequence[Tensor]], *, seed: int = 0) -> TextureGap:
    """Compare sets of LQ images with real ones on equally many native patches.

    Patches are 64 px, or 32 or 16 px if an image is smaller. Their number is how many fit side by side into the
    smallest set (or half of the real one), at most 512.

    Args:
        real: Real LQ images, uint8 (3, H, W) of any size.
        sets: Other images by name, in the same form.
        seed: Seed of positions and halves.

    Returns:
        The gaps, including the floor: one seeded half of the real images against the other.

    Raises:
        ValueError: If a set is empty.
        UserError: If a side of an image is shorter than 16 px.
    """
    parts = halves(real, seed)
    groups = {"real": real, **sets}
    for name, pictures in groups.items():
        if not pictures:
            raise ValueError(f"got no images in the set {name!r}; expected 1 or more")
    side = _patch_side(groups)
    n = min(MOST_PATCHES, *(_room(pictures, side) for pictures in (*groups.values(), *parts)))

    def patches(pictures: Sequence[Tensor]) -> Tensor:
        return native_patches([picture.float() / 255 for picture in pictures], n=n, seed=seed, size=side)

    reference = patches(real)
    rows = tuple(_row(name, patches(pictures), reference) for name, pictures in sets.items())
    floor = _row("real vs. real", patches(parts[0]), patches(parts[1])) if parts else None
    return TextureGap(chroma_noise(reference), rows, floor, n, side)


def render(gap: TextureGap, real_name: str = "real") -> str:
    """Format the gaps as a plain table for a terminal of 80 columns."""
    width = max(len(row.name) for row in (*gap.rows, *([gap.floor] if gap.floor else []))) + 2
    names = band_names(len(gap.rows[0].power_gaps))
    lines = [
        f"{'':<{width}}{'chroma noise':>18}   luminance power per octave, dB over {real_name}",
        f"{'':<{width}}{'(8-bit units)':>18}   {''.join(f'{name:>10}' for name in names)}",
        f"{real_name:<{width}}{gap.real_chroma_noise:>9.2f}",
    ]
    for row in gap.rows:
        lines.append(_line(row, width))
    if gap.floor:
        lines.append(_line(gap.floor, width))
    lines.append(
        f"{gap.patches} native patches of {gap.side} px from each set; octaves in cycles per pixel, finest last"
    )
    return "\n".join(lines)


def _line(row: TextureRow, width: int) -> str:
    gaps = "".join(f"{value:>+10.2f}" for value in row.power_gaps)
    return f"{row.name:<{width}}{row.chroma_noise:>9.2f} {f'({row.chroma_gap:+.2f})':>8}   {gaps}"


def _row(name: str, patches: Tensor, reference: Tensor) -> TextureRow:
    noise = chroma_noise(patches)
    gaps = power_gap_db(band_power(patches), band_power(reference))
    return TextureRow(name, noise, noise - chroma_noise(reference), tuple(gaps.tolist()))


def _patch_side(groups: Mapping[str, Sequence[Tensor]]) -> int:
    name, smallest = min(
        ((name, min(picture.shape[-2:])) for name, pictures in groups.items() for picture in pictures),
        key=lambda found: found[1],
    )
    for side in PATCH_SIDES:
        if side <= smallest:
            return side
    raise UserError(
        f"got an image with a side of {smallest} px in the set {name!r}; expected 16 px or more; remove smaller images"
    )


def _room(pictures: Sequence[Tensor], side: int) -> int:
    """Count the patches that fit into the images without overlap."""
    return sum((picture.shape[-2] // side) * (picture.shape[-1] // side) for picture in pictures)
