"""The sets that a study compares: HQ images to make LQ from, and patches of real LQ images."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ddpm_pairs.errors import UserError
from ddpm_pairs.images.decode import UnreadablePicture, decode_picture, read_size
from ddpm_pairs.images.find import Failure, Picture
from ddpm_pairs.metrics.cache import cached_features
from ddpm_pairs.metrics.features import FeatureNetwork, extract
from ddpm_pairs.metrics.set_scores import LEAST_PICTURES, SetScores, set_scores
from ddpm_pairs.metrics.texture import halves, native_patches
from ddpm_pairs.tensors import seed_of

BATCH = 16


@dataclass(frozen=True)
class RealSet:
    """Native patches of real LQ images and their features.

    Attributes:
        patches: uint8 (n, 3, S, S).
        features: Features of the patches, (n, d) by name.
        floor: Scores of one half of the real images against the other, n patches each; no cell is expected to be lower.
    """

    patches: Tensor
    features: dict[str, Tensor]
    floor: SetScores


def choose_pictures(
    pictures: list[Picture], n: int, patch: int, scale: int, seed: int, failures: list[Failure]
) -> list[Picture]:
    """Choose the first HQ images, in a seeded order, whose LQ is large enough for a patch.

    Args:
        pictures: Images to choose from.
        n: Number of images; all if there are fewer.
        patch: Side of the patch in LQ pixels.
        scale: HQ size divided by LQ size.
        seed: Seed of the order.
        failures: Skipped images are appended, each with its reason.

    Returns:
        The chosen images, sorted by key.

    Raises:
        UserError: If they are fewer than a set must have.
    """
    least, chosen = patch * scale, []
    for picture in sorted(pictures, key=lambda one: seed_of(seed, "study", one.key)):
        try:
            height, width = read_size(picture.path)
        except UnreadablePicture as error:
            failures.append(Failure(picture.source, str(error)))
            continue
        if min(height, width) < least:
            reason = f"got {width}x{height} px; expected {least} px or more per side for LQ patches of {patch} px"
            failures.append(Failure(picture.source, reason))
        else:
            chosen.append(replace(picture, size=(height, width)))
        if len(chosen) == n:
            break
    if len(chosen) < LEAST_PICTURES:
        raise UserError(
            f"--data.hq_dir: got {len(chosen)} images of {least} px or more per side; expected {LEAST_PICTURES} or "
            "more; add images, or use a smaller --model.patch"
        )
    return sorted(chosen, key=lambda one: one.key)


def read_real_set(
    pictures: list[Picture],
    n: int,
    patch: int,
    seed: int,
    network: FeatureNetwork,
    device: torch.device,
    failures: list[Failure],
) -> RealSet:
    """Read native patches of real LQ images, and compute the floor from two halves of the images.

    Args:
        pictures: The real LQ images.
        n: Number of patches.
        patch: Side of the patches in pixels.
        seed: Seed of positions and halves.
        network: The network that computes features.
        device: Device of the network.
        failures: Unreadable images are appended, each with its reason.

    Raises:
        UserError: If too few images are large enough for a patch.
    """
    read, paths = [], []
    for picture in pictures:
        try:
            pixels = torch.from_numpy(decode_picture(picture.path)).permute(2, 0, 1)
        except UnreadablePicture as error:
            failures.append(Failure(picture.source, str(error)))
            continue
        if min(pixels.shape[1:]) >= patch:
            read.append(pixels)
            paths.append(picture.path)
    if len(read) < 2 * LEAST_PICTURES:
        raise UserError(
            f"--data.lq_dir: got {len(read)} images of {patch} px or more per side; expected {2 * LEAST_PICTURES} or "
            "more; add images, or use a smaller --model.patch"
        )
    cuts = [
        native_patches([one.float() for one in part], n=n, seed=seed, size=patch)
        for part in (read, *halves(read, seed))
    ]
    patches = [cut.to(torch.uint8) for cut in cuts]
    settings = {"network": network.identity, "patch": patch, "n": n, "seed": seed}

    def compute() -> dict[str, Tensor]:
        return extract(network, [part.to(device) for part in torch.cat(patches).split(BATCH)])

    together = cached_features(paths, settings, compute, 3 * n)
    features, first, second = ({name: one.split(n)[i] for name, one in together.items()} for i in range(3))
    return RealSet(patches[0], features, set_scores(first, second))
