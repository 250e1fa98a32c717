"""Whether HQ and LQ of pairs lie on one another."""

import math

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from skimage.registration import phase_cross_correlation
from torch import Tensor

from ddpm_pairs.data.endless import channels_first
from ddpm_pairs.data.pair_samples import decode_pair
from ddpm_pairs.images.find import Failure
from ddpm_pairs.images.pixels import enlarged
from ddpm_pairs.pairset.pairs import PicturePair
from ddpm_pairs.seeding import seed_of

PAIRS_LOOKED_AT = 64
WINDOW = 256
BLUR = 16
LEAST_SIDE = 96
LEAST_CORRELATION = 0.4
LEAST_GAIN = 2.5
GREATEST_SHIFT = 1.0


def shifted_pairs(pairs: list[PicturePair], seed: int = 0) -> tuple[dict[str, tuple[float, float]], int]:
    """Pairs whose HQ and LQ do not lie on one another.

    Looked at are at most PAIRS_LOOKED_AT pairs, drawn by the seed, and of each the central WINDOW HQ pixels, so that it
    takes a second or two however many pairs there are. Pairs that cannot be decoded, or are too small or unlike for an
    estimate, are passed over.

    Returns:
        Shift (down, right) of LQ against HQ in HQ pixels, by key, of the pairs where it is longer than GREATEST_SHIFT;
        and for how many pairs it was estimated.
    """
    order = np.random.default_rng(seed_of(seed, "shift")).permutation(len(pairs))[:PAIRS_LOOKED_AT]
    found, estimated = {}, 0
    for i in sorted(order):
        sides = decode_pair(pairs[i])
        if isinstance(sides, Failure):
            continue
        shift = shift_of(*map(channels_first, sides))
        if shift is not None:
            estimated += 1
            if math.hypot(*shift) > GREATEST_SHIFT:
                found[pairs[i].key] = shift
    return found, estimated


def shift_of(hq: Tensor, lq: Tensor) -> tuple[float, float] | None:
    """Shift of LQ against HQ: where the luma of HQ and of LQ enlarged bicubically correlate best.

    To a tenth of a pixel (Guizar-Sicairos et al. 2008), of what is finer than BLUR, in a Hann window since the borders
    would hold the peak at zero, and without whitening since above LQ's band there is only noise to whiten. A shift
    counts only where it raises the correlation clearly above that without shift. With windows of 256 pixels, none of 49
    real x4 pairs seemed shifted by more than a pixel (one was too unlike), nor did any of 60 photographs degraded as in
    Real-ESRGAN; of 40 whose LQ was shifted too, 30 did by (1, 1), 37 by (2, 0) and all by (3, -2). With windows of 128
    pixels 2 of the 60 seemed shifted.

    Args:
        hq: uint8 (3, H, W).
        lq: uint8 (3, h, w).

    Returns:
        Pixels of HQ by which what LQ shows lies lower and further right; None where a side is under LEAST_SIDE, or even
        at the best shift the correlation is under LEAST_CORRELATION.
    """
    height, width = lq.shape[1:]
    scale = hq.shape[1] // height
    h, w = min(height, WINDOW // scale), min(width, WINDOW // scale)
    side = min(h, w) * scale
    if side < LEAST_SIDE:
        return None
    top, left = (height - h) // 2, (width - w) // 2
    lq = lq[:, top : top + h, left : left + w]
    hq = hq[:, top * scale : (top + h) * scale, left * scale : (left + w) * scale]
    one, other = _windowed(hq.float()), _windowed(enlarged(lq, hq.shape[1:]).float())
    if not (one.any() and other.any()):
        return None
    back, error, _ = phase_cross_correlation(one, other, upsample_factor=10, normalization=None)
    best = math.sqrt(max(0.0, 1 - error**2))
    if best < LEAST_CORRELATION:
        return None
    unshifted = float((one * other).sum() / math.sqrt((one**2).sum() * (other**2).sum()))
    # The error of a correlation falls with the square root of the number of pixels.
    return (float(-back[0]), float(-back[1])) if best - unshifted > LEAST_GAIN / side else (0.0, 0.0)


def _windowed(picture: Tensor) -> np.ndarray:
    """What is finer than BLUR of the luma (Rec. 601) of (3, H, W), in a Hann window; float64 (H, W)."""
    luma = torch.einsum("chw,c->hw", picture.double(), torch.tensor([0.299, 0.587, 0.114]).double()).numpy()
    window = np.outer(np.hanning(luma.shape[0]), np.hanning(luma.shape[1]))
    return window * (luma - gaussian_filter(luma, BLUR))
