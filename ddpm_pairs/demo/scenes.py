"""The images of the demo: scenes cut from bundled photographs, and what a simulated camera takes of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image
from torch import Tensor

from ddpm_pairs.demo.camera import Camera
from ddpm_pairs.files import encode_png
from ddpm_pairs.images.pixels import eight_bit
from ddpm_pairs.new_folder import atomic_folder
from ddpm_pairs.tensors import generator_for

LQ_PHOTOGRAPHS = ("chelsea", "coffee", "rocket", "retina", "brick", "gravel", "grass", "coins", "hubble_deep_field")
"""Photographs from scikit-image's wheel; the DDPM is trained on the camera's images of them."""

HQ_PHOTOGRAPHS = ("astronaut", "stereo_motorcycle", "camera")
"""Photographs from scikit-image's wheel for the HQ side; the DDPM never sees them."""

SCALE = 4


def photograph_named(name: str) -> Image.Image:
    """Load a bundled photograph in RGB."""
    pixels = getattr(skimage.data, name)()
    pixels = pixels[0] if isinstance(pixels, tuple) else pixels  # the left one of the stereo pair
    return Image.fromarray(pixels).convert("RGB")


def scenes(names: tuple[str, ...], count: int, side: int, zoom: tuple[float, float], seed: int) -> dict[str, Tensor]:
    """Cut squares out of photographs at random positions and sizes, some of them mirrored.

    Args:
        names: Names of the photographs, used in turn.
        count: Number of scenes.
        side: Side of a scene in pixels.
        zoom: Limits of the enlargement (log-uniform); below 1, scenes are shrunk.
        seed: Random seed.

    Returns:
        uint8 (3, side, side) by key, such as ``coffee_07``.
    """
    photographs = {name: photograph_named(name) for name in names}
    found = {}
    for i in range(count):
        key = f"{names[i % len(names)]}_{i // len(names):02d}"
        picture = photographs[names[i % len(names)]]
        u = torch.rand(4, generator=generator_for(seed, key, "scene"), dtype=torch.float64).tolist()
        source = min(side / (zoom[0] * (zoom[1] / zoom[0]) ** u[0]), *picture.size)
        left, top = u[1] * (picture.width - source), u[2] * (picture.height - source)
        box = (left, top, left + source, top + source)
        cutting = picture.resize((side, side), Image.Resampling.LANCZOS, box=box)
        if u[3] < 0.5:
            cutting = cutting.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        found[key] = _tensor(np.array(cutting))
    return found


def photograph(pictures: dict[str, Tensor], seed: int, roll: str) -> dict[str, Tensor]:
    """Photograph scenes with the simulated camera.

    Args:
        pictures: Scenes by key, uint8 (3, H, W) of one size.
        seed: Random seed of the camera.
        roll: Name of the series; the camera's random parameters differ between series.

    Returns:
        uint8 (3, H / 4, W / 4) by key.
    """
    camera = Camera(SCALE)
    taken = {}
    for key, picture in pictures.items():
        parameters = camera.draw(generator_for(seed, key, roll))
        taken[key] = eight_bit(camera.apply(picture[None].float() / 255, [parameters]))[0]
    return taken


def write_pictures(folder: Path, make: Callable[[], dict[str, Tensor]]) -> None:
    """Write PNGs by key to a folder that appears when it is complete; an existing folder is kept."""
    if folder.is_dir():
        return
    with atomic_folder(folder) as unfinished:
        for key, picture in make().items():
            (unfinished / f"{key}.png").write_bytes(encode_png(picture))


def _tensor(pixels: np.ndarray) -> Tensor:
    """Convert uint8 (H, W, 3) to (3, H, W)."""
    return torch.from_numpy(pixels).permute(2, 0, 1)
