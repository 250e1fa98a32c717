"""Samples made from pairs: crops for training and validation, whole pairs for test."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ddpm_pairs.data.endless import channels_first, decode_or_failure, first_readable, order_of
from ddpm_pairs.data.transforms import PairedCrop
from ddpm_pairs.images.find import Failure
from ddpm_pairs.pairset.pairs import PicturePair
from ddpm_pairs.tensors import seed_of

CACHE_BYTES = 512 * 2**20
"""Limit of the decoded images that each process keeps in memory.

The images decoded first stay, because evicting one never pays off if each pair is visited once per epoch.
"""


class PairCrop(NamedTuple):
    """One sample.

    Attributes:
        hq: uint8 (3, S, S), RGB.
        lq: uint8 (3, S / scale, S / scale), RGB.
        failures: Images that could not be decoded and whose pairs were replaced by this one.
        key: The pair's key.
    """

    hq: Tensor
    lq: Tensor
    failures: list[Failure]
    key: str


def decode_pair(pair: PicturePair) -> tuple[np.ndarray, np.ndarray] | Failure:
    """Decode HQ and LQ to uint8 (H, W, 3), or return which of them cannot be decoded and why."""
    hq, lq = decode_or_failure(pair.hq), decode_or_failure(pair.lq)
    for side in (hq, lq):
        if isinstance(side, Failure):
            return side
    return hq, lq


class DecodedPairs:
    """Decode pairs, and keep as many as fit into the cache."""

    def __init__(self) -> None:
        self._room = CACHE_BYTES
        self._kept: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def __call__(self, pair: PicturePair) -> tuple[np.ndarray, np.ndarray] | Failure:
        """Return the result of ``decode_pair``; do not modify it."""
        if pair.key in self._kept:
            return self._kept[pair.key]
        sides = decode_pair(pair)
        if isinstance(sides, Failure):
            return sides
        size = sum(pixels.nbytes for pixels in sides)
        if size <= self._room:
            self._room -= size
            self._kept[pair.key] = sides
        return sides


def place_of(i: int, shares: list[float]) -> tuple[int, int]:
    """Return the folder of training sample i, and the number of the sample within this folder, from 0.

    The first folder gets the samples at which floor(i * share) increases. The remaining samples are divided among the
    other folders in the same way. Any part of the stream contains each folder's share to within a few samples,
    without any state.

    Args:
        i: Number of the sample, 0 or greater.
        shares: Positive weights of the folders.
    """
    for folder in range(len(shares) - 1):
        share = shares[folder] / sum(shares[folder:])
        before, after = int(i * share), int((i + 1) * share)
        if after > before:
            return folder, before
        i -= before
    return len(shares) - 1, i


class TrainingPairs(Dataset):
    """Training crops; item i exists for every i >= 0. Each folder has its own epochs, in seeded order."""

    def __init__(self, folders: list[list[PicturePair]], shares: list[float], crop: PairedCrop, seed: int) -> None:
        self.folders, self.shares, self.crop, self.seed = folders, shares, crop, seed
        self._decoded = DecodedPairs()

    def __getitem__(self, i: int) -> PairCrop:
        """Return a random crop of the pair of sample i."""
        folder, j = place_of(i, self.shares)
        pairs = self.folders[folder]
        n = len(pairs)
        order = order_of(n, self.seed, "order", folder, j // n)
        pair, sides, failures = first_readable((pairs[order[(j + k) % n]] for k in range(n)), self._decoded)
        hq, lq = self.crop(*sides, seed_of(self.seed, "crop", i))
        return PairCrop(channels_first(hq), channels_first(lq), failures, pair.key)


class ValidationPairs(Dataset):
    """Validation crops; item j is the center crop of pair j."""

    def __init__(self, pairs: list[PicturePair], crop: PairedCrop) -> None:
        self.pairs, self.crop = pairs, crop
        self._decoded = DecodedPairs()

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.pairs)

    def __getitem__(self, j: int) -> PairCrop:
        """Return the center crop of pair j."""
        n = len(self.pairs)
        pair, sides, failures = first_readable((self.pairs[(j + k) % n] for k in range(n)), self._decoded)
        hq, lq = self.crop.centre(*sides)
        return PairCrop(channels_first(hq), channels_first(lq), failures, pair.key)


class WholePairs(Dataset):
    """Whole pairs; item j is pair j as a batch of 1, or a batch that contains only the failure."""

    def __init__(self, pairs: list[PicturePair]) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.pairs)

    def __getitem__(self, j: int) -> dict[str, Any]:
        """Decode pair j."""
        pair = self.pairs[j]
        sides = decode_pair(pair)
        if isinstance(sides, Failure):
            return {"key": [], "failures": [sides]}
        hq, lq = (channels_first(side)[None] for side in sides)
        return {"hq": hq, "lq": lq, "key": [pair.key], "failures": []}


class Decodable:
    """The batches of ``WholePairs`` that contain a pair.

    Args:
        loader: A loader of ``WholePairs``.
        report: Called with the failure of each pair that could not be decoded.
    """

    def __init__(self, loader: DataLoader, report: Callable[[list[Failure]], None]) -> None:
        self.loader, self.report = loader, report

    def __len__(self) -> int:
        """Maximum number of batches."""
        return len(self.loader)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield batches of 1, and report failures."""
        for batch in self.loader:
            if batch["key"]:
                yield batch
            else:
                self.report(batch["failures"])
