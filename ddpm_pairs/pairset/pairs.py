"""A pair in memory, on its way into a packed copy, and the pairs that a source was found to contain."""

from dataclasses import dataclass, field

from ddpm_pairs.images.find import Failure, Picture
from ddpm_pairs.pairset.records import Record


@dataclass(frozen=True)
class Sample:
    """A pair in memory, on its way into a packed copy.

    Attributes:
        name: Quoted key.
        record: Manifest record.
        hq: PNG file of the HQ image.
        lq: PNG file of the LQ image.
    """

    name: str
    record: Record
    hq: bytes
    lq: bytes


@dataclass(frozen=True)
class PicturePair:
    """A pair on disk.

    Attributes:
        key: Unique key of the pair.
        hq: HQ file.
        lq: LQ file.
        content: What the pair shows, which decides whether it is used for training or for validation: the key within
            its own source without the ``~<n>`` of variants.
        psnr: HQ against LQ enlarged bicubically, in dB, where a record says it; infinite where they are equal.
    """

    key: str
    hq: Picture
    lq: Picture
    content: str
    psnr: float | None = None


@dataclass
class FoundPairs:
    """The pairs of one source.

    Attributes:
        place: Folder or file, as the user named it.
        option: Command line option that named it.
        pairs: Sorted by key.
        failures: Files and lines that are no half of a pair.
        rejected: Number of pairs left out because they are marked ``accepted: false``.
    """

    place: str
    option: str
    pairs: list[PicturePair] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    rejected: int = 0
