"""Check pairs before they are used: readable files, matching sizes, and similarity of HQ and LQ."""

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
        scale: HQ sides over LQ sides, the same for all pairs.
        pairs: The usable pairs of each place, at least one each.
        failures: Files and pairs that cannot be used, found while listing the places or by the check, each once.
    """

    scale: int
    pairs: list[list[PicturePair]]
    failures: list[Failure]


def check_pairs(places: list[FoundPairs], psnr_floor: float | None = None) -> CheckedPairs:
    """Remove pairs that cannot be used.

    Args:
        places: The pairs found in one or more places.
        psnr_floor: Minimum PSNR in dB, see ``above_floor``; ``None`` accepts any similarity.

    Raises:
        UserError: If none of the pairs of a place can be used.
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
                f"{place.option}: none of the {len(place.pairs)} pairs in {place.place!r} can be used "
                f"({wrong[0].source}: {wrong[0].reason}); give usable pairs"
            )
        kept.append(pairs)
        failures += place.failures + wrong
    return CheckedPairs(scale, kept, list(dict.fromkeys(failures)))


class SizedPair(NamedTuple):
    """A pair and the sizes (height, width) of its images."""

    pair: PicturePair
    hq: tuple[int, int]
    lq: tuple[int, int]

    @property
    def scale(self) -> int | None:
        """The one of 1, 2 and 4 that maps both LQ sides to the HQ sides; ``None`` if there is none."""
        fitting = (s for s in SCALES if self.hq == (self.lq[0] * s, self.lq[1] * s))
        return next(fitting, None)


def read_sizes(pairs: Iterable[PicturePair]) -> tuple[list[SizedPair], list[Failure]]:
    """Read the sizes of pairs from the file headers, and collect the files whose headers cannot be read.

    This takes about 0.2 ms per pair, and no time for images whose sizes are already known.
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
    """The most frequent scale, the largest one in case of a tie; ``None`` if no pair has a valid scale."""
    times = Counter(pair.scale for pair in pairs if pair.scale is not None)
    return max(times, key=lambda scale: (times[scale], scale)) if times else None


def of_scale(pairs: Iterable[SizedPair], scale: int | None) -> tuple[list[PicturePair], list[Failure]]:
    """Select pairs of one scale with HQ sides of ``MIN_SIDE`` or more, and say why the others are rejected."""
    fitting, failures = [], []
    for one in pairs:
        (height, width), (lq_height, lq_width) = one.hq, one.lq
        if one.scale is None:
            reason = "expected HQ sides of 1, 2 or 4 times the LQ sides"
        elif one.scale != scale:
            reason = f"expected scale {scale}, as in most pairs"
        elif min(one.hq) < MIN_SIDE:
            reason = f"expected HQ sides of {MIN_SIDE} px or more"
        else:
            fitting.append(one.pair)
            continue
        failures.append(
            Failure(one.pair.lq.source, f"got HQ of {width}x{height} px and LQ of {lq_width}x{lq_height} px; {reason}")
        )
    return fitting, failures


def above_floor(pairs: Iterable[PicturePair], floor: float) -> tuple[list[PicturePair], list[Failure]]:
    """Remove pairs whose PSNR is below a floor.

    The ``psnr`` of a manifest is trusted. A pair without one is decoded, which takes about 20 ms for HQ of 512 px.

    Args:
        pairs: Pairs with matching sizes.
        floor: Minimum PSNR, in dB, between HQ and the bicubically enlarged LQ.
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
            failures.append(Failure(pair.lq.source, f"PSNR of {psnr:.1f} dB is below --data.psnr_floor {floor:g}"))
        else:
            kept.append(pair)
    return kept, failures


def _size(picture: Picture) -> tuple[int, int] | Failure:
    try:
        return picture.size or read_size(picture.path)
    except UnreadablePicture as error:
        return Failure(picture.source, str(error))
