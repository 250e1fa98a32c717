"""The sets that a study compares: HQ pictures that it makes LQ of, and patches of real LQ pictures."""

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
from ddpm_pairs.seeding import seed_of

BATCH = 16


@dataclass(frozen=True)
class RealSet:
    """Native patches of real LQ pictures and their features.

    Attributes:
        patches: uint8 (n, 3, S, S).
        features: Of the patches, (n, d) by name.
        floor: Scores of one half of the real pictures against the other, n patches each: no cell can be asked for less.
    """

    patches: Tensor
    features: dict[str, Tensor]
    floor: SetScores


def choose_pictures(
    pictures: list[Picture], n: int, patch: int, scale: int, seed: int, failures: list[Failure]
) -> list[Picture]:
    """The first HQ pictures, in a seeded order, whose LQ holds a patch.

    Args:
        pictures: To choose from.
        n: How many; all where there are fewer.
        patch: Its side, LQ pixels.
        scale: HQ sides over LQ sides.
        seed: Of the order.
        failures: Pictures that were passed over are added, each with its reason.

    Returns:
        The chosen ones by key.

    Raises:
        UserError: where they are fewer than a set must have.
    """
    least, chosen = patch * scale, []
    for picture in sorted(pictures, key=lambda one: seed_of(seed, "study", one.key)):
        try:
            height, width = read_size(picture.path)
        except UnreadablePicture as error:
            failures.append(Failure(picture.source, str(error)))
            continue
        if min(height, width) < least:
            reason = f"{width}x{height}, expected {least} px or more a side for LQ patches of {patch} px"
            failures.append(Failure(picture.source, reason))
        else:
            chosen.append(replace(picture, size=(height, width)))
        if len(chosen) == n:
            break
    if len(chosen) < LEAST_PICTURES:
        raise UserError(
            f"--data.hq_dir has {len(chosen)} pictures of {least} px or more a side: expected {LEAST_PICTURES} or "
            "more, or give a smaller --model.patch"
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
    """Native patches of real LQ pictures, and the floor from two halves of the pictures.

    Args:
        pictures: The real ones.
        n: How many patches.
        patch: Their side, px.
        seed: Of places and halves.
        network: That makes features.
        device: Where it is.
        failures: Pictures that cannot be read are added, each with its reason.

    Raises:
        UserError: where too few of them hold a patch.
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
            f"--data.lq_dir has {len(read)} pictures of {patch} px or more a side: expected {2 * LEAST_PICTURES} or "
            "more, or a smaller --model.patch"
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
