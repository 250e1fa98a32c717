"""Crops on the CPU by albumentations, which no other module imports. Nothing here resizes."""

import os
import random

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the web for a newer version when imported

import albumentations as A  # noqa: E402
import cv2  # noqa: E402
import numpy as np  # noqa: E402


class NativeCrop:
    """A random crop of native pixels as a pure function of (picture, seed).

    A picture smaller than the crop is first padded by reflection (about the outermost pixels, repeated where needed),
    equally on both sides.

    Args:
        size: side of the crop, in pixels.
        center_crop: side of the centre crop that the random crop is taken from; None takes it from the whole picture.
        flip: mirror every other crop, left to right.
    """

    def __init__(self, size: int, center_crop: int | None = None, flip: bool = False) -> None:
        """Build the steps, which takes longer than a crop."""
        self._center_crop = center_crop
        self._compose = A.Compose(
            [
                A.PadIfNeeded(min_height=size, min_width=size, border_mode=cv2.BORDER_REFLECT_101),
                A.RandomCrop(height=size, width=size),
                A.HorizontalFlip(p=0.5 if flip else 0.0),
            ]
        )

    def __call__(self, picture: np.ndarray, seed: int) -> np.ndarray:
        """Crop.

        Args:
            picture: uint8 (H, W, 3).
            seed: 0 or greater; the same seed gives the same crop, whatever was cropped before.

        Returns:
            uint8 (size, size, 3).
        """
        if self._center_crop is not None:
            picture = _center(picture, self._center_crop)
        # One state for all steps: `set_random_seed` would start every step on the same numbers.
        self._compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        return self._compose(image=picture)["image"]


def _center(picture: np.ndarray, side: int) -> np.ndarray:
    """The central (min(H, side), min(W, side), 3) of a picture."""
    height, width = (min(side, length) for length in picture.shape[:2])
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return picture[top : top + height, left : left + width]
