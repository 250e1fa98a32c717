"""Which pairs are still to be made, and in which batches. Nothing is drawn here: that happens window by window."""

from collections.abc import Container
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ddpm_pairs.degradations.base import MIN_LQ_SIDE, too_small
from ddpm_pairs.images.decode import UnreadablePicture, read_size
from ddpm_pairs.images.find import Failure, Picture
from ddpm_pairs.pairset.records import variant_keys
from ddpm_pairs.synthesis.generator import PairGenerator, chunks
from ddpm_pairs.synthesis.preflight import fitting_names


class Plan(NamedTuple):
    """What is to be made.

    Attributes:
        batches: Images that share a canvas, for ``PairGenerator.arrange``; each knows its ``size`` and has its pair's
            key.
        failures: Images that cannot become pairs.
    """

    batches: list[list[Picture]]
    failures: list[Failure]


def plan(
    pictures: list[Picture], generator: PairGenerator, done: Container[str] = (), root: Path | None = None
) -> Plan:
    """Group the pairs that are not done by canvas, in batches that run together.

    Only headers are read, once per image whatever the number of variants. An image that is cut into tiles is a batch of
    its own, so that it is on disk before the next one begins.

    Args:
        pictures: HQ images.
        generator: With its walk added, on which the canvases depend.
        done: Keys of the pairs that exist.
        root: The pairs folder, whose file system may not hold every name; ``None`` where nothing is written.
    """
    by_canvas: dict[tuple[int, int], list[Picture]] = {}
    failures: list[Failure] = []
    fits = always if root is None else fitting_names(root)
    for picture in pictures:
        keys = [key for key in variant_keys(picture.key, generator.variants) if key not in done]
        for key in keys[-1:]:  # the longest
            if not fits(key):
                reason = f"{key}.png is too long a name for the folder of the pairs; shorten it"
                failures.append(Failure(picture.source, reason))
                keys = [one for one in keys if fits(one)]
        if not keys:
            continue
        try:
            size = read_size(picture.path)
        except UnreadablePicture as error:
            failures.append(Failure(picture.source, str(error)))
            continue
        if min(size) < MIN_LQ_SIDE * generator.scale:
            failures.append(Failure(picture.source, too_small(*size, generator.scale)))
            continue
        by_canvas.setdefault(generator.canvas(size), []).extend(replace(picture, key=key, size=size) for key in keys)
    batches = [batch for canvas in sorted(by_canvas) for batch in chunks(by_canvas[canvas], generator.together(canvas))]
    return Plan(batches, failures)


def always(key: str) -> bool:
    """Where nothing is written, every key fits."""
    return True
