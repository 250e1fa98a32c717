"""What is to be made, and in which batches: pictures, their variants, and canvases."""

from collections.abc import Container
from typing import NamedTuple

from ddpm_pairs.errors import UserError
from ddpm_pairs.images.decode import UnreadablePicture, read_size
from ddpm_pairs.images.find import Failure, Picture
from ddpm_pairs.pairset.records import variant_keys
from ddpm_pairs.synthesis.generator import MIN_LQ_SIDE, PairGenerator, too_small


def check_variants(pictures: list[Picture], variants: int) -> None:
    """See that no picture already has the key of another one's variant.

    Raises:
        UserError: in one line that names both.
    """
    keys = {picture.key: picture.source for picture in pictures}
    for picture in pictures:
        for key in variant_keys(picture.key, variants)[1:]:
            if key in keys:
                raise UserError(
                    f"--data.hq_dir: {keys[key]!r} has the key {key!r}, which a variant of {picture.source!r} gets "
                    f"with --model.variants {variants}: rename one of them"
                )


def unfinished(pictures: list[Picture], variants: int, done: Container[str]) -> list[Picture]:
    """A picture for each pair that is still to be made; variants of one HQ differ in their keys alone."""
    return [
        Picture(key, picture.path, picture.source)
        for picture in pictures
        for key in variant_keys(picture.key, variants)
        if key not in done
    ]


class Planned(NamedTuple):
    """What ``plan_batches`` found.

    Attributes:
        batches: What shall be worked together, in this order.
        failures: Pictures whose header already rules them out.
        occupancy: Share of the network's slots that pictures or tiles of theirs use, over the whole plan, 0..1; the
            rest are repeats that fill up short batches, and slots whose picture walks later than its batch. ``None``
            where no network runs.
    """

    batches: list[list[Picture]]
    failures: list[Failure]
    occupancy: float | None


def plan_batches(pictures: list[Picture], generator: PairGenerator) -> Planned:
    """Batches of ``slots`` pictures that share a canvas size and walk back about equally long.

    Only headers are read, of the variants of one picture once. Within a canvas the longest walks come first, so that
    the pictures of a batch begin and end together whatever their t. A picture that is worked in tiles is a batch of its
    own, so that it is on disk before the next one begins.
    """
    canvases: dict[str, tuple[int, int]] = {}
    failures: dict[str, Failure] = {}
    for source, path in {picture.source: picture.path for picture in pictures}.items():
        try:
            height, width = read_size(path)
        except UnreadablePicture as error:
            failures[source] = Failure(source, str(error))
            continue
        if min(height, width) < MIN_LQ_SIDE * generator.scale:
            failures[source] = Failure(source, too_small(height, width, generator.scale))
        else:
            canvases[source] = generator.canvas((height, width))
    by_canvas: dict[tuple[int, int], list[tuple[int, Picture]]] = {}
    for picture in pictures:
        if picture.source in canvases:
            walk = (generator.evaluations(picture.key), picture)
            by_canvas.setdefault(canvases[picture.source], []).append(walk)
    batches, used, slots = [], 0, 0
    for canvas, walks in sorted(by_canvas.items()):
        walks.sort(key=lambda walk: (-walk[0], walk[1].key))
        together, tiles = generator.together(canvas), generator.tiles(canvas)
        for first in range(0, len(walks), together):
            lengths, batch = zip(*walks[first : first + together], strict=True)
            batches.append(list(batch))
            used += tiles * sum(lengths)
            slots += -(-tiles // generator.slots) * generator.slots * max(lengths)
    return Planned(batches, list(failures.values()), used / slots if slots else None)
