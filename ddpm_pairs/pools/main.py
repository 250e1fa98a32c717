"""``ddpm-pairs pools``: collect blur kernels and noise patches of real LQ images as a degradation, RealSR."""

import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from ddpm_pairs.degradations.learned.files import check_new_file, save_synthesizer
from ddpm_pairs.degradations.learned.pools import OVERLAP, RealSR
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import check_writable
from ddpm_pairs.images.decode import UnreadablePicture
from ddpm_pairs.images.find import Failure, Picture, find_pictures
from ddpm_pairs.plain_text import print_plain, printable
from ddpm_pairs.pools.estimated import estimates, read_image
from ddpm_pairs.pools.flat_patches import flat_patches
from ddpm_pairs.pools.kernel_gan import NoKernel
from ddpm_pairs.pools.kernels import SCALES, finished_kernel
from ddpm_pairs.pools.sheet import save_pools_sheet
from ddpm_pairs.tensors import generator_for, seed_of

PATCHES_OF_AN_IMAGE = 8
"""Maximum number of noise patches of an image, so that no image dominates the pool."""


def main(arguments: Namespace) -> int:
    """Run ``ddpm-pairs pools LQ_DIR OUT.safetensors``.

    Args:
        arguments: ``lq_dir``, ``out``, ``scale``, ``kernels``, ``iterations``, ``patch``, ``patches``, ``variance``,
            ``mean``, ``seed`` and ``workers`` of the command line.

    Returns:
        0.

    Raises:
        UserError: If an option or the folder is unusable, or no image gives a kernel or a noise patch.
        OutputError: If a file cannot be written.
    """
    _check(arguments)
    check_writable(arguments.out.parent)
    found, failures = find_pictures(arguments.lq_dir, "LQ_DIR")
    order = torch.randperm(len(found), generator=generator_for(arguments.seed, "pools")).tolist()
    pictures = [found[place] for place in order]
    patches, noise_from = _noise(pictures, arguments, failures)
    kernels, kernels_from = _kernels(pictures[: arguments.kernels], arguments, failures)
    net = RealSR(arguments.scale, len(kernels), kernels.shape[-1], len(patches), arguments.patch)
    net.kernels.copy_(kernels)
    net.patches.copy_(patches)
    numbers = {source: number for number, source in enumerate(dict.fromkeys(noise_from))}
    net.sources.copy_(torch.tensor([numbers[source] for source in noise_from]))
    save_synthesizer(net, arguments.out, _training(arguments, len(found), kernels_from, noise_from))
    sheet = arguments.out.with_suffix(".png")
    save_pools_sheet(sheet, net, kernels_from, noise_from)
    for failure in failures:
        print(printable(f"skipped {failure.source}: {failure.reason}"), file=sys.stderr)
    print_plain(f"kernels  {len(kernels)} of {min(arguments.kernels, len(found))} images")
    print_plain(f"noise    {len(patches)} patches of {arguments.patch} px from {len(numbers)} of {len(found)} images")
    print_plain(f"wrote    {arguments.out} and {sheet}; use it as --model.degradation {arguments.out}")
    return 0


def _check(arguments: Namespace) -> None:
    check_new_file(arguments.out, arguments.lq_dir, "LQ_DIR")
    if arguments.scale not in SCALES:
        raise UserError(f"--scale: got {arguments.scale}; expected one of {', '.join(map(str, SCALES))}")
    for option in ("kernels", "iterations", "patches", "workers"):
        if getattr(arguments, option) is not None and getattr(arguments, option) < 1:
            raise UserError(f"--{option}: got {getattr(arguments, option)}; expected 1 or more")
    if arguments.patch < 2 * OVERLAP or arguments.patch % OVERLAP:
        raise UserError(f"--patch: got {arguments.patch}; expected a multiple of {OVERLAP}, {2 * OVERLAP} or more")
    if not arguments.variance > 0:
        raise UserError(f"--variance: got {arguments.variance:g}; expected more than 0")
    if not 0 <= arguments.mean < 255:
        raise UserError(f"--mean: got {arguments.mean:g}; expected 0 to 255")


def _noise(pictures: list[Picture], arguments: Namespace, failures: list[Failure]) -> tuple[torch.Tensor, list[str]]:
    """Collect noise patches in the order of the images until there are enough; returns them and their sources."""
    patches, sources = [], []
    for picture in _progress(pictures, "noise", len(pictures)):
        if len(sources) >= arguments.patches:
            break
        try:
            image = read_image(picture.path)
        except (UnreadablePicture, OSError) as error:
            failures.append(Failure(picture.source, str(error)))
            continue
        most = min(PATCHES_OF_AN_IMAGE, arguments.patches - len(sources))
        seed = seed_of(arguments.seed, picture.key, "patches")
        flat = flat_patches(image, arguments.patch, arguments.variance, arguments.mean, most, seed)
        if len(flat) == 0:
            failures.append(Failure(picture.source, f"no flat patch of {arguments.patch} px for the noise"))
        patches.append(flat)
        sources += [picture.source] * len(flat)
    if not sources:
        raise UserError(
            f"LQ_DIR: no image in {arguments.lq_dir} has a flat patch of {arguments.patch} px; raise --variance "
            f"(now {arguments.variance:g}), or lower --patch or --mean"
        )
    return torch.cat(patches), sources


def _kernels(pictures: list[Picture], arguments: Namespace, failures: list[Failure]) -> tuple[torch.Tensor, list[str]]:
    """Estimate kernels; returns those that converged in the order of the images, and their sources."""
    record = arguments.out.with_suffix(".kernels.jsonl")
    workers = arguments.workers or os.cpu_count() or 1
    running = estimates(record, pictures, arguments.iterations, arguments.seed, workers)
    found = {one["source"]: one for one in _progress(running, "kernels", len(pictures))}
    kernels, sources = [], []
    for picture in pictures:
        estimate = found[picture.source]
        try:
            if "kernel" not in estimate:
                raise NoKernel(estimate["reason"])
            kernels.append(finished_kernel(torch.tensor(estimate["kernel"]), arguments.scale))
            sources.append(picture.source)
        except NoKernel as error:
            failures.append(Failure(picture.source, f"no kernel: {error}"))
    if not kernels:
        raise UserError(
            f"LQ_DIR: none of {len(pictures)} images in {arguments.lq_dir} gave a kernel "
            f"({failures[-1].source}: {failures[-1].reason}); raise --kernels or --iterations, or use larger images"
        )
    return torch.stack(kernels), sources


def _progress(items: Any, what: str, total: int) -> Any:  # noqa: ANN401 - any iterable, and one of the same
    return track(items, what, total=total, console=Console(stderr=True))


def _training(arguments: Namespace, images: int, kernels_from: list[str], noise_from: list[str]) -> dict[str, Any]:
    """Return what the file says about its origin, with the source of each kernel and of each patch."""
    names = ("iterations", "variance", "mean", "seed")
    return {
        "lq_dir": Path(arguments.lq_dir).resolve().name,
        "images": images,
        **{name: getattr(arguments, name) for name in names},
        "kernels_from": kernels_from,
        "noise_from": noise_from,
    }
