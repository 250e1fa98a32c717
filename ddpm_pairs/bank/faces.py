"""The faces of a bank: pairs of a restored face and its LQ, and the photographs they come from."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ddpm_pairs.data.endless import channels_first
from ddpm_pairs.data.pair_samples import decode_pair
from ddpm_pairs.diffusion.description import MOST_DESCRIPTION_BYTES
from ddpm_pairs.errors import UserError
from ddpm_pairs.faces.restored import SOURCES
from ddpm_pairs.images.find import Failure
from ddpm_pairs.images.pixels import enlarged
from ddpm_pairs.pairset.folder import MANIFESTS
from ddpm_pairs.pairset.pairs import PicturePair
from ddpm_pairs.pairset.records import read_lines
from ddpm_pairs.pairset.sources import find_pairs

RECORDS = (MANIFESTS, SOURCES)
"""Names of files in a folder of pairs whose lines may give the ``source`` of a ``key``."""

SMALLEST_LQ = 7
"""Minimum side in px of the LQ pixels that a code is read from; noise cannot be measured on fewer."""

_NUMBER = re.compile(r"#\d+$")
_EXAMPLES = 3


@dataclass(frozen=True)
class Face:
    """A face of a bank.

    Attributes:
        source: The photograph with the number of the face, such as ``album/photo.jpg#2``, or the file of the LQ face.
        pair: The restored face (HQ) and the LQ face.
    """

    source: str
    pair: PicturePair


class Crops(NamedTuple):
    """The center of a face, uint8.

    Attributes:
        hq: The restored face, (3, size, size).
        lq: The LQ face, enlarged to the HQ grid, (3, size, size).
        native: The same part of the LQ face in its own pixels, (3, h, w).
    """

    hq: Tensor
    lq: Tensor
    native: Tensor


def find_faces(place: str) -> tuple[list[Face], list[Failure]]:
    """Find pairs of faces and the photographs they come from.

    The source of a pair is what the manifest or ``sources.jsonl`` of its folder says, otherwise the LQ file. Faces with
    the same source, such as a photograph with several people, are numbered from 1 in the order of their keys.

    Args:
        place: See ``pairset.sources.find_pairs``.

    Raises:
        UserError: If there are no pairs, or their names take too much space for a bank.
    """
    found = find_pairs(place, "FACES")
    recorded = dict(_recorded(Path(place)))
    sources = [recorded.get(pair.key, pair.lq.source.removeprefix("lq/")) for pair in found.pairs]
    if (size := len(json.dumps(sources))) > MOST_DESCRIPTION_BYTES // 2:
        raise UserError(
            f"FACES: the names of {len(sources)} faces take {size} bytes; expected at most "
            f"{MOST_DESCRIPTION_BYTES // 2}; use fewer faces"
        )
    times, numbers = Counter(sources), Counter[str]()
    faces = []
    for pair, source in zip(found.pairs, sources, strict=True):
        numbers[source] += 1
        faces.append(Face(source if times[source] == 1 else f"{source}#{numbers[source]}", pair))
    return faces, found.failures


def of_source(faces: list[Face], only: str) -> list[Face]:
    """Return the faces of a photograph, a folder of photographs or faces, or a single face.

    Raises:
        UserError: If there are none.
    """
    kept = [
        face
        for face in faces
        if only in (face.source, photograph_of(face)) or face.source.startswith(only.rstrip("/") + "/")
    ]
    if not kept:
        known = list(dict.fromkeys(map(photograph_of, faces)))
        more = f" and {len(known) - _EXAMPLES} more" if len(known) > _EXAMPLES else ""
        raise UserError(f"--only: got {only!r}; expected a source of FACES: {', '.join(known[:_EXAMPLES])}{more}")
    return kept


def photograph_of(face: Face) -> str:
    """Return the source of a face without the number of the face."""
    return _NUMBER.sub("", face.source)


def read_face(face: Face, size: int) -> Crops | Failure:
    """Decode a face and crop its center, or return why no code can be read from it.

    Args:
        face: The face.
        size: Side of the crop in HQ px.
    """
    sides = decode_pair(face.pair)
    if isinstance(sides, Failure):
        return sides
    hq, lq = map(channels_first, sides)
    (height, width), (lq_height, lq_width) = hq.shape[1:], lq.shape[1:]
    sizes = f"HQ of {width}x{height} px and LQ of {lq_width}x{lq_height} px"
    if min(height, width) < size:
        return Failure(face.source, f"too small: {sizes}; expected HQ of {size} px or more per side")
    if abs(lq_width * height / width - lq_height) > 1:
        return Failure(face.source, f"{sizes} differ in shape")
    native = _center(lq, round(size * lq_height / height), round(size * lq_width / width))
    if min(native.shape[1:]) < SMALLEST_LQ:
        return Failure(
            face.source, f"too small: {sizes}; expected {SMALLEST_LQ} LQ px or more per side in {size} HQ px"
        )
    return Crops(_center(hq, size, size), _center(enlarged(lq, (height, width)), size, size), native)


def _recorded(root: Path) -> Iterator[tuple[str, str]]:
    """Yield key and source of the lines of all records in a folder that have both."""
    for name in RECORDS:
        for path in sorted(path for path in root.glob(name) if path.is_file()):
            for _, line in read_lines(path):
                if isinstance(line, dict) and isinstance(line.get("source"), str) and isinstance(line.get("key"), str):
                    yield line["key"], line["source"]


def _center(image: Tensor, height: int, width: int) -> Tensor:
    """Crop the center of an image (3, H, W)."""
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    return image[:, top : top + height, left : left + width]
