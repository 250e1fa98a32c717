"""Samples of pairs: crops for training and validation, whole pairs for testing."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ddpm_pairs.data.endless import channels_first, decode_or_failure, first_readable, order_of
from ddpm_pairs.data.transforms import PairedCrop
from ddpm_pairs.images.find import Failure
from ddpm_pairs.pairset.pairs import PicturePair
from ddpm_pairs.seeding import seed_of

CACHE_BYTES = 512 * 2**20
"""Decoded pictures that a process keeps. Those met first stay: in an order that visits each pair once an epoch, making
room for a later one never pays."""


class PairCrop(NamedTuple):
    """One sample.

    Attributes:
        hq: uint8 (3, S, S), RGB.
        lq: uint8 (3, S / scale, S / scale), RGB.
        failures: pictures that could not be decoded and in whose pair's place this one came.
        key: the pair's key.
    """

    hq: Tensor
    lq: Tensor
    failures: list[Failure]
    key: str


def decode_pair(pair: PicturePair) -> tuple[np.ndarray, np.ndarray] | Failure:
    """HQ and LQ, uint8 (H, W, 3); or which of them cannot be decoded, and why."""
    hq, lq = decode_or_failure(pair.hq), decode_or_failure(pair.lq)
    for side in (hq, lq):
        if isinstance(side, Failure):
            return side
    return hq, lq


class DecodedPairs:
    """Decodes pairs and keeps what fits into the cache."""

    def __init__(self) -> None:
        self._room = CACHE_BYTES
        self._kept: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def __call__(self, pair: PicturePair) -> tuple[np.ndarray, np.ndarray] | Failure:
        """What `decode_pair` gives, not to be written to."""
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
    """Which folder training sample i comes from, and which of this folder's samples it is, from 0.

    The first folder has the samples where floor(i * share) steps up, and so on among those left for the others: every
    stretch of the stream has each folder's share to within a few samples, without any state.

    Args:
        i: number of the sample, 0 or greater.
        shares: positive weights of the folders.
    """
    for folder in range(len(shares) - 1):
        share = shares[folder] / sum(shares[folder:])
        before, after = int(i * share), int((i + 1) * share)
        if after > before:
            return folder, before
        i -= before
    return len(shares) - 1, i


class TrainingPairs(Dataset):
    """Sample i for any i >= 0: each folder's pairs once an epoch of its own, in a seeded order."""

    def __init__(self, folders: list[list[PicturePair]], shares: list[float], crop: PairedCrop, seed: int) -> None:
        self.folders, self.shares, self.crop, self.seed = folders, shares, crop, seed
        self._decoded = DecodedPairs()

    def __getitem__(self, i: int) -> PairCrop:
        """Crop the pair of sample i."""
        folder, j = place_of(i, self.shares)
        pairs = self.folders[folder]
        n = len(pairs)
        order = order_of(n, self.seed, "order", folder, j // n)
        pair, sides, failures = first_readable((pairs[order[(j + k) % n]] for k in range(n)), self._decoded)
        hq, lq = self.crop(*sides, seed_of(self.seed, "crop", i))
        return PairCrop(channels_first(hq), channels_first(lq), failures, pair.key)


class ValidationPairs(Dataset):
    """The central crop of pair j."""

    def __init__(self, pairs: list[PicturePair], crop: PairedCrop) -> None:
        self.pairs, self.crop = pairs, crop
        self._decoded = DecodedPairs()

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.pairs)

    def __getitem__(self, j: int) -> PairCrop:
        """Crop pair j."""
        n = len(self.pairs)
        pair, sides, failures = first_readable((self.pairs[(j + k) % n] for k in range(n)), self._decoded)
        hq, lq = self.crop.centre(*sides)
        return PairCrop(channels_first(hq), channels_first(lq), failures, pair.key)


class WholePairs(Dataset):
    """Pair j as a batch of 1, or a batch of nothing but the failure."""

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
    """The batches of WholePairs with a pair in them.

    Args:
        loader: loader of WholePairs.
        report: told of the pairs that could not be decoded.
    """

    def __init__(self, loader: DataLoader, report: Callable[[list[Failure]], None]) -> None:
        self.loader, self.report = loader, report

    def __len__(self) -> int:
        """The most batches there can be."""
        return len(self.loader)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Batches of 1."""
        for batch in self.loader:
            if batch["key"]:
                yield batch
            else:
                self.report(batch["failures"])
