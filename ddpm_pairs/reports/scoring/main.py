"""``ddpm-pairs score``: metrics of a folder of pictures against a folder of references, without any model."""

from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from ddpm_pairs.errors import UserError
from ddpm_pairs.images.decode import UnreadablePicture, decode_picture
from ddpm_pairs.images.find import Failure, Picture, find_pictures
from ddpm_pairs.metrics.cache import cached_features
from ddpm_pairs.metrics.evaluated import METRICS
from ddpm_pairs.metrics.features import FeatureNetwork, Inception, extract
from ddpm_pairs.metrics.paired_scores import LEAST_SIDE, LPIPS, PAIRED, PAIRED_SETTINGS, paired_scores, summarize
from ddpm_pairs.metrics.set_scores import LEAST_PICTURES, set_scores
from ddpm_pairs.metrics.texture import native_patches
from ddpm_pairs.metrics.weights import ALEXNET, INCEPTION, weights_path
from ddpm_pairs.reports.scoring.scores import Scores, print_scores, write_scores
from ddpm_pairs.reports.texture import halves

BATCH = 16


def main(arguments: Namespace) -> int:
    """``ddpm-pairs score RESULT REFERENCE``.

    Args:
        arguments: ``result``, ``reference``, ``output_dir``, ``metrics`` and ``patch`` of the command line.

    Returns:
        0.

    Raises:
        UserError: for unusable folders or options, or missing weights.
    """
    metrics = tuple(name for name in METRICS if name in arguments.metrics.split(","))
    if unknown := set(arguments.metrics.split(",")) - set(METRICS):
        raise UserError(f"--metrics: {sorted(unknown)[0]!r} is unknown: give some of {','.join(METRICS)}")
    if arguments.patch is not None and arguments.patch < LEAST_SIDE:
        raise UserError(f"--patch is {arguments.patch}: expected {LEAST_SIDE} px or more")
    if arguments.output_dir.exists() and not arguments.output_dir.is_dir():
        raise UserError(f"--output_dir {arguments.output_dir} is a file: expected a folder or a new name")
    result, _ = find_pictures(arguments.result, "RESULT")
    reference, _ = find_pictures(arguments.reference, "REFERENCE")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    inception = Inception(weights_path(INCEPTION)).to(device) if {"fid", "kid"} & set(metrics) else None
    distance = LPIPS(weights_path(ALEXNET)).to(device) if "lpips" in metrics else None
    scores = score(result, reference, metrics, arguments.patch, inception, distance, device)
    write_scores(arguments.output_dir, scores)
    print_scores(scores, arguments.output_dir)
    return 0


def score(
    result: Sequence[Picture],
    reference: Sequence[Picture],
    metrics: Sequence[str],
    patch: int | None,
    inception: FeatureNetwork | None,
    distance: LPIPS | None,
    device: torch.device,
) -> Scores:
    """Score pictures: the paired scores where keys are equal, the set scores on all.

    Args:
        result: Pictures to score.
        reference: Pictures to score against.
        metrics: Some of ``METRICS``.
        patch: Side of the native patches that set scores compare, as many from each set; ``None`` compares whole
            pictures, resized by the network.
        inception: Needed for ``fid`` and ``kid``.
        distance: Needed for ``lpips``.
        device: Where to compute; the networks are there.
    """
    scores = Scores(settings={"metrics": list(metrics), "patch": patch, "references": len(reference)})
    paired = [name for name in PAIRED if name in metrics]
    if paired:
        _score_pairs(scores, result, {picture.key: picture for picture in reference}, paired, distance, device)
    if inception is not None:
        _score_sets(scores, result, reference, metrics, patch, inception, device)
    return scores


def _score_pairs(
    scores: Scores,
    result: Sequence[Picture],
    references: dict[str, Picture],
    paired: list[str],
    distance: LPIPS | None,
    device: torch.device,
) -> None:
    matching = [picture for picture in result if picture.key in references]
    if not matching:
        scores.notes |= dict.fromkeys(paired, "no picture of RESULT has its key in REFERENCE")
        return
    for picture in _progress(matching, "pairs"):
        try:
            pair = [_read(one).unsqueeze(0).to(device) for one in (picture, references[picture.key])]
            found = paired_scores(*pair, distance)
        except (UserError, OSError) as error:
            scores.failures.append(Failure(picture.source, str(error)))
            continue
        scores.pictures[picture.key] = {name: found[name].item() for name in paired}
        scores.files[picture.key] = (picture, references[picture.key])
    scores.n = len(scores.pictures)
    scores.settings |= {"pairs": scores.n} | {name: PAIRED_SETTINGS[name] for name in paired}
    means, intervals, notes = summarize(scores.pictures, paired)
    scores.values |= means
    scores.intervals |= intervals
    scores.notes |= notes


def _score_sets(
    scores: Scores,
    result: Sequence[Picture],
    reference: Sequence[Picture],
    metrics: Sequence[str],
    patch: int | None,
    inception: FeatureNetwork,
    device: torch.device,
) -> None:
    names = [name for name in ("fid", "fid192", "kid") if name.removesuffix("192") in metrics]
    scores.settings["inception"] = f"{inception.identity}, 299 px, bilinear without antialiasing"
    if patch is None:
        ours, sizes = _whole(result, inception, device, scores, "result pictures")
        theirs, _ = _whole(reference, inception, device, scores, "references", keep=True)
        if len(sizes) > 1:
            scores.notes["fid"] = "pictures differ in size: to compare sets of LQ pictures give --patch"
        groups = [ours, theirs]
    else:
        groups = _patch_features(scores, result, reference, patch, inception, device)
    scores.n = len(groups[0]["fid"])
    if min(len(group["fid"]) for group in groups[:2]) < LEAST_PICTURES:
        scores.notes |= dict.fromkeys(names, f"fewer than {LEAST_PICTURES} pictures in a set")
        return
    found = set_scores(groups[0], groups[1])
    scores.values |= {name: getattr(found, name) for name in names}
    if "kid" in names:
        scores.intervals["kid"] = found.kid_interval
    if len(groups) == 4 and len(groups[2]["fid"]) >= LEAST_PICTURES:
        floor = set_scores(groups[2], groups[3])
        scores.floor = {name: getattr(floor, name) for name in names}


def _whole(
    pictures: Sequence[Picture],
    inception: FeatureNetwork,
    device: torch.device,
    scores: Scores,
    what: str,
    keep: bool = False,
) -> tuple[dict[str, Tensor], set[tuple[int, ...]]]:
    """Features of whole pictures, one at a time, and the sizes met; references' features are kept for the next time."""
    sizes: set[tuple[int, ...]] = set()

    def batches() -> Iterator[Tensor]:
        for picture in _progress(pictures, what):
            if (pixels := _read_or_report(picture, scores)) is not None:
                sizes.add(tuple(pixels.shape))
                yield pixels.unsqueeze(0).to(device)

    if not keep:
        return extract(inception, batches()), sizes
    settings = {"network": inception.identity, "patch": None}
    paths = [one.path for one in pictures]
    return cached_features(paths, settings, lambda: extract(inception, batches()), len(paths)), sizes


def _patch_features(
    scores: Scores,
    result: Sequence[Picture],
    reference: Sequence[Picture],
    patch: int,
    inception: FeatureNetwork,
    device: torch.device,
) -> list[dict[str, Tensor]]:
    """Features of equally many native patches of the result, of the reference, and of two halves of the reference."""
    ours, theirs = (_large_enough(pictures, patch, scores) for pictures in (result, reference))
    parts = halves(theirs, seed=0)
    room = [sum((p.shape[1] // patch) * (p.shape[2] // patch) for p in group) for group in (ours, theirs, *parts)]
    n = min(room)
    scores.settings["patches"] = n
    groups = []
    for pictures in (ours, theirs, *parts):
        if n == 0:
            groups.append({name: torch.zeros(0, 1) for name in ("fid", "fid192")})
            continue
        cut = (native_patches([p.float() for p in pictures], n=n, seed=0, size=patch)).to(torch.uint8)
        batches = [batch.to(device) for batch in cut.split(BATCH)]
        groups.append(extract(inception, _progress(batches, "patches")))
    return groups


def _large_enough(pictures: Sequence[Picture], patch: int, scores: Scores) -> list[Tensor]:
    read = []
    for picture in pictures:
        pixels = _read_or_report(picture, scores)
        if pixels is None:
            continue
        if min(pixels.shape[1:]) < patch:
            height, width = pixels.shape[1:]
            scores.failures.append(Failure(picture.source, f"{width}x{height} px, smaller than a patch of {patch} px"))
        else:
            read.append(pixels)
    return read


def _progress(items: Sequence[Any], what: str) -> Iterable[Any]:
    """A progress bar on a terminal; nothing in a log."""
    console = Console(stderr=True)
    return track(items, what, console=console, transient=True, disable=not console.is_terminal)


def _read(picture: Picture) -> Tensor:
    return torch.from_numpy(decode_picture(picture.path)).permute(2, 0, 1).contiguous()


def _read_or_report(picture: Picture, scores: Scores) -> Tensor | None:
    try:
        return _read(picture)
    except (UnreadablePicture, OSError) as error:
        failure = Failure(picture.source, str(error))
        if failure not in scores.failures:
            scores.failures.append(failure)
        return None
