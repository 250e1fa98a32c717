"""Compute scores of images against references: paired scores where keys match, set scores over all images."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
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
from ddpm_pairs.metrics.texture import halves, native_patches
from ddpm_pairs.metrics.weights import ALEXNET, INCEPTION, weights_path
from ddpm_pairs.reports.scoring.scores import Scores

BATCH = 16


def score_folders(
    result: Path, reference: Path, metrics: Sequence[str], patch: int | None, device: torch.device
) -> Scores:
    """Score a folder against another with the real metric networks.

    Args:
        result: Folder of images to score.
        reference: Folder of images to score against.
        metrics: Some of ``METRICS``.
        patch: Side of native patches in pixels, see ``score``.
        device: Where to compute.

    Raises:
        UserError: If a folder or an option is unusable, or the weights of a metric are missing.
    """
    if unknown := sorted(set(metrics) - set(METRICS)):
        raise UserError(f"metrics: got {unknown[0]!r}; expected some of {','.join(METRICS)}")
    if patch is not None and patch < LEAST_SIDE:
        raise UserError(f"patch: got {patch}; expected {LEAST_SIDE} px or more")
    metrics = tuple(name for name in METRICS if name in metrics)
    results, _ = find_pictures(result, "RESULT")
    references, _ = find_pictures(reference, "REFERENCE")
    inception = Inception(weights_path(INCEPTION)).to(device) if {"fid", "kid"} & set(metrics) else None
    distance = LPIPS(weights_path(ALEXNET)).to(device) if "lpips" in metrics else None
    return score(results, references, metrics, patch, inception, distance, device)


def score(
    result: Sequence[Picture],
    reference: Sequence[Picture],
    metrics: Sequence[str],
    patch: int | None,
    inception: FeatureNetwork | None,
    distance: LPIPS | None,
    device: torch.device,
) -> Scores:
    """Score images: paired scores where keys are equal, set scores over all images.

    Args:
        result: Images to score.
        reference: Images to score against.
        metrics: Some of ``METRICS``.
        patch: Side in pixels of the native patches that set scores compare, equally many from each set; ``None``
            compares whole images, which the network resizes.
        inception: Required for ``fid`` and ``kid``.
        distance: Required for ``lpips``.
        device: Where to compute; the networks are already there.
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
        scores.notes |= dict.fromkeys(paired, "no image of RESULT has the same key as one of REFERENCE")
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
        ours, sizes = _whole(result, inception, device, scores, "result images")
        theirs, _ = _whole(reference, inception, device, scores, "references", keep=True)
        if len(sizes) > 1:
            scores.notes["fid"] = "images differ in size; use --patch to compare sets of LQ images"
        groups = [ours, theirs]
    else:
        groups = _patch_features(scores, result, reference, patch, inception, device)
    scores.n = len(groups[0]["fid"])
    if min(len(group["fid"]) for group in groups[:2]) < LEAST_PICTURES:
        scores.notes |= dict.fromkeys(names, f"fewer than {LEAST_PICTURES} images in a set")
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
    """Compute features of whole images, one at a time, and collect their sizes; ``keep`` caches the features."""
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
    """Compute features of equally many native patches of the result, the reference and two halves of the reference."""
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
            scores.failures.append(
                Failure(picture.source, f"{width}x{height} px is smaller than a patch of {patch} px")
            )
        else:
            read.append(pixels)
    return read


def _progress(items: Sequence[Any], what: str) -> Iterable[Any]:
    """Show a progress bar, but only on a terminal."""
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
