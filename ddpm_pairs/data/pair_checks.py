"""What is checked of pairs before they are used: whether files are readable, sizes, and likeness."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from ddpm_pairs.data.crops import MIN_SIDE
from ddpm_pairs.data.endless import channels_first
from ddpm_pairs.data.pair_samples import decode_pair
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.decode import UnreadablePicture, read_size
from ddpm_pairs.images.find import Failure, Picture
from ddpm_pairs.images.pixels import psnr_of
from ddpm_pairs.pairset.pairs import FoundPairs, PicturePair

SCALES = (1, 2, 4)


class CheckedPairs(NamedTuple):
    """Pairs that can be used.

    Attributes:
        scale: HQ sides over LQ sides, the same for all.
        pairs: those of each place, one or more each.
        failures: what was found wanting in the places and by the check, each once.
    """

    scale: int
    pairs: list[list[PicturePair]]
    failures: list[Failure]


def check_pairs(places: list[FoundPairs], psnr_floor: float | None = None) -> CheckedPairs:
    """Leave out pairs that cannot be used.

    Args:
        places: one or more.
        psnr_floor: see `above_floor`; None takes pairs however unlike.

    Raises:
        UserError: no pair of a place can be used.
    """
    sized = [read_sizes(place.pairs) for place in places]
    scale = common_scale(pair for of_place, _ in sized for pair in of_place)
    kept, failures = [], []
    for place, (of_place, wrong) in zip(places, sized, strict=True):
        pairs, unfit = of_scale(of_place, scale)
        wrong = wrong + unfit
        if psnr_floor is not None:
            pairs, unlike = above_floor(pairs, psnr_floor)
            wrong += unlike
        if not pairs:
            raise UserError(
                f"{place.option}: none of the {len(place.pairs)} pairs of {place.place!r} can be used "
                f"({wrong[0].source}: {wrong[0].reason}); give other pairs"
            )
        kept.append(pairs)
        failures += place.failures + wrong
    return CheckedPairs(scale, kept, list(dict.fromkeys(failures)))


class SizedPair(NamedTuple):
    """A pair and its sizes (height, width)."""

    pair: PicturePair
    hq: tuple[int, int]
    lq: tuple[int, int]

    @property
    def scale(self) -> int | None:
        """The one of 1, 2 and 4 by which both LQ sides give the HQ sides, or None."""
        fitting = (s for s in SCALES if self.hq == (self.lq[0] * s, self.lq[1] * s))
        return next(fitting, None)


def read_sizes(pairs: Iterable[PicturePair]) -> tuple[list[SizedPair], list[Failure]]:
    """Sizes of pairs from the headers alone, and the files whose headers cannot be read.

    It takes about 0.2 ms a pair, and no time where what holds the pictures has told their sizes.
    """
    sized, failures = [], []
    for pair in pairs:
        sizes = [_size(picture) for picture in (pair.hq, pair.lq)]
        wrong = [size for size in sizes if isinstance(size, Failure)]
        failures += wrong
        if not wrong:
            sized.append(SizedPair(pair, *sizes))
    return sized, failures


def common_scale(pairs: Iterable[SizedPair]) -> int | None:
    """The scale that most pairs have, of equally frequent ones the greatest; None where no pair has any."""
    times = Counter(pair.scale for pair in pairs if pair.scale is not None)
    return max(times, key=lambda scale: (times[scale], scale)) if times else None


def of_scale(pairs: Iterable[SizedPair], scale: int | None) -> tuple[list[PicturePair], list[Failure]]:
    """The pairs of a scale whose HQ sides are MIN_SIDE or more, and why the others are left out."""
    fitting, failures = [], []
    for one in pairs:
        (height, width), (lq_height, lq_width) = one.hq, one.lq
        if one.scale is None:
            reason = "HQ sides must be 1, 2 or 4 times those of LQ"
        elif one.scale != scale:
            reason = f"most pairs are x{scale}"
        elif min(one.hq) < MIN_SIDE:
            reason = f"HQ sides of {MIN_SIDE} or more are needed"
        else:
            fitting.append(one.pair)
            continue
        failures.append(
            Failure(one.pair.lq.source, f"HQ is {width}x{height}, LQ {lq_width}x{lq_height} pixels; {reason}")
        )
    return fitting, failures


def above_floor(pairs: Iterable[PicturePair], floor: float) -> tuple[list[PicturePair], list[Failure]]:
    """Leave out pairs whose PSNR is under a floor.

    A manifest's `psnr` is believed; a pair without one is decoded, which takes some 20 ms for HQ of 512 px.

    Args:
        pairs: pairs whose sizes fit.
        floor: the least PSNR of HQ against LQ enlarged bicubically, in dB.
    """
    kept, failures = [], []
    for pair in pairs:
        psnr = pair.psnr
        if psnr is None:
            sides = decode_pair(pair)
            if isinstance(sides, Failure):
                failures.append(sides)
                continue
            psnr = psnr_of(*map(channels_first, sides))
        if psnr < floor:
            failures.append(Failure(pair.lq.source, f"PSNR of {psnr:.1f} dB is under --data.psnr_floor {floor:g}"))
        else:
            kept.append(pair)
    return kept, failures


def _size(picture: Picture) -> tuple[int, int] | Failure:
    try:
        return picture.size or read_size(picture.path)
    except UnreadablePicture as error:
        return Failure(picture.source, str(error))
