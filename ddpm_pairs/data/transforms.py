"""Crops, flips and rotations on the CPU. No other module imports albumentations, and nothing here resizes."""

import os
import random

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # otherwise, importing it checks for a newer version online

import albumentations as A  # noqa: E402
import cv2  # noqa: E402
import numpy as np  # noqa: E402


class NativeCrop:
    """A random crop of native pixels as a pure function of (image, seed).

    An image smaller than the crop is first padded equally on both sides by reflection about its outermost pixels,
    several times if necessary.

    Args:
        size: Side of the crop in pixels.
        center_crop: Side in pixels of the center crop from which the random crop is taken; ``None`` uses the whole
            image.
        flip: Whether to flip crops horizontally with probability 1/2.
    """

    def __init__(self, size: int, center_crop: int | None = None, flip: bool = False) -> None:
        """Build the transforms once, because building takes longer than cropping."""
        self._center_crop = center_crop
        self._compose = A.Compose(
            [
                A.PadIfNeeded(min_height=size, min_width=size, border_mode=cv2.BORDER_REFLECT_101),
                A.RandomCrop(height=size, width=size),
                A.HorizontalFlip(p=0.5 if flip else 0.0),
            ]
        )

    def __call__(self, picture: np.ndarray, seed: int) -> np.ndarray:
        """Crop an image.

        Args:
            picture: uint8 (H, W, 3).
            seed: 0 or greater; the same seed gives the same crop, regardless of earlier calls.

        Returns:
            uint8 (size, size, 3).
        """
        if self._center_crop is not None:
            picture = _center(picture, self._center_crop)
        # One state for all steps: ``set_random_seed`` would give every step the same random numbers.
        self._compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        return self._compose(image=picture)["image"]


def _center(picture: np.ndarray, side: int) -> np.ndarray:
    """Return the center (min(H, side), min(W, side), 3) of an image."""
    height, width = (min(side, length) for length in picture.shape[:2])
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return picture[top : top + height, left : left + width]


class PairedCrop:
    """The same crop, flip and rotation of both images of a pair, as a pure function of (pair, seed).

    Crops are aligned to the LQ grid, so each LQ pixel of a crop keeps its block of HQ pixels. A pair smaller than the
    crop is first padded by reflection about its border, several times if necessary. This reflection repeats the
    outermost LQ pixel and its block of HQ pixels.

    Args:
        size: Side of the HQ crop in pixels, a multiple of the scale.
        scale: HQ sides over LQ sides.
        flip: Whether to flip pairs horizontally with probability 1/2.
        rotate: Whether to rotate pairs by 0, 90, 180 or 270 degrees.
    """

    def __init__(self, size: int, scale: int, flip: bool = False, rotate: bool = False) -> None:
        """Build the transforms once, because building takes longer than cropping."""
        self._side = size // scale
        self._scale = scale
        self._compose = A.Compose(
            [A.HorizontalFlip(p=0.5 if flip else 0.0), A.RandomRotate90(p=1.0 if rotate else 0.0)],
            additional_targets={"lq": "image"},
            is_check_shapes=False,
        )

    def __call__(self, hq: np.ndarray, lq: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Crop a pair at a random position.

        Args:
            hq: uint8 (scale * h, scale * w, 3).
            lq: uint8 (h, w, 3).
            seed: 0 or greater; the same seed gives the same crop, regardless of earlier calls.

        Returns:
            uint8 (size, size, 3) and (size / scale, size / scale, 3).
        """
        hq, lq = self._padded(hq, lq)
        rng = np.random.default_rng(seed)
        top, left = (int(rng.integers(length - self._side + 1)) for length in lq.shape[:2])
        hq, lq = self._cut(hq, lq, top, left, self._side)
        self._compose.set_random_state(rng, random.Random(seed))
        both = self._compose(image=hq, lq=lq)
        return both["image"], both["lq"]

    def centre(self, hq: np.ndarray, lq: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the center crop, not flipped or rotated."""
        hq, lq = self._padded(hq, lq)
        return self._cut(hq, lq, *((length - self._side) // 2 for length in lq.shape[:2]), self._side)

    def _cut(self, hq: np.ndarray, lq: np.ndarray, top: int, left: int, side: int) -> tuple[np.ndarray, np.ndarray]:
        s = self._scale
        return (
            hq[top * s : (top + side) * s, left * s : (left + side) * s],
            lq[top : top + side, left : left + side],
        )

    def _padded(self, hq: np.ndarray, lq: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        missing = [max(self._side - length, 0) for length in lq.shape[:2]]
        if not any(missing):
            return hq, lq
        on_lq = [(n // 2, n - n // 2) for n in missing]
        on_hq = [(before * self._scale, after * self._scale) for before, after in on_lq]
        return tuple(np.pad(side, [*by, (0, 0)], "symmetric") for side, by in ((hq, on_hq), (lq, on_lq)))


class ZoomedCrop(PairedCrop):
    """The same square of random native size and the same flips of both images of a pair, as a function of (pair, seed).

    Resizing the square to ``size`` gives what resizing the pair by ``zoom`` and then cropping would give. Squares are
    aligned to the LQ grid and never larger than the pair; pairs smaller than ``size`` are padded as by ``PairedCrop``.

    Args:
        size: Side of the HQ crop at a zoom of 1 in pixels, a multiple of the scale.
        scale: HQ sides over LQ sides.
        zoom: Range of the resize factor, uniform, in (0, 1].
        flips: Probabilities of a horizontal and of a vertical flip.
    """

    def __init__(self, size: int, scale: int, zoom: tuple[float, float], flips: tuple[float, float]) -> None:
        super().__init__(size, scale)
        self._zoom, self._flips = zoom, flips

    def __call__(self, hq: np.ndarray, lq: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Cut a square at a random position.

        Args:
            hq: uint8 (scale * h, scale * w, 3).
            lq: uint8 (h, w, 3).
            seed: 0 or greater; the same seed gives the same square.

        Returns:
            uint8 (scale * k, scale * k, 3) and (k, k, 3), with k from size / scale to size / scale / zoom.
        """
        hq, lq = self._padded(hq, lq)
        rng = np.random.default_rng(seed)
        side = min(round(self._side / rng.uniform(*self._zoom)), *lq.shape[:2])
        top, left = (int(rng.integers(length - side + 1)) for length in lq.shape[:2])
        across, down = (-1 if rng.random() < probability else 1 for probability in self._flips)
        return tuple(part[::down, ::across] for part in self._cut(hq, lq, top, left, side))
