"""What is to be made, and in which batches: pictures, their variants, and canvases."""

from collections.abc import Container

from ddpm_pairs.data.decode import UnreadablePicture, read_size
from ddpm_pairs.data.pictures import Failure, Picture
from ddpm_pairs.pairs.generator import MIN_LQ_SIDE, PairGenerator, too_small


def variant_keys(key: str, variants: int) -> list[str]:
    """The keys of one picture's pairs: its own, then ``<key>~1``, ``<key>~2``, ... up to ``variants`` in all."""
    return [key, *(f"{key}~{number}" for number in range(1, variants))]


def check_variants(pictures: list[Picture], variants: int) -> None:
    """See that no picture already has the key of another one's variant.

    Raises:
        ValueError: in one line that names both.
    """
    keys = {picture.key: picture.source for picture in pictures}
    for picture in pictures:
        for key in variant_keys(picture.key, variants)[1:]:
            if key in keys:
                raise ValueError(
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


def plan_batches(pictures: list[Picture], generator: PairGenerator) -> tuple[list[list[Picture]], list[Failure]]:
    """Batches of ``slots`` pictures that share a canvas size, and the pictures whose header already rules them out.

    Only headers are read, of the variants of one picture once. A picture that is worked in tiles is a batch of its own,
    so that it is on disk before the next one begins.
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
    by_canvas: dict[tuple[int, int], list[Picture]] = {}
    sized = [(canvases[picture.source], picture) for picture in pictures if picture.source in canvases]
    for canvas, picture in sorted(sized, key=lambda one: (one[0], one[1].key)):
        by_canvas.setdefault(canvas, []).append(picture)
    batches = []
    for canvas, group in by_canvas.items():
        together = generator.together(canvas)
        batches += [group[first : first + together] for first in range(0, len(group), together)]
    return batches, list(failures.values())
