"""Estimate the kernels of images in several processes, and record each one, so that an interrupted run can resume."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NotRequired

import torch
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from typing_extensions import TypedDict

from ddpm_pairs.files import lines_in, sha256_of, write_atomically
from ddpm_pairs.images.decode import UnreadablePicture, decode_picture
from ddpm_pairs.images.find import Picture
from ddpm_pairs.pools.kernel_gan import KERNEL_SIDE, NoKernel, estimate_kernel
from ddpm_pairs.stopping import STOPS
from ddpm_pairs.tensors import seed_of

_Row = Annotated[list[float], Field(min_length=KERNEL_SIDE, max_length=KERNEL_SIDE)]


class Estimate(TypedDict):
    """A line of the record: what was estimated from an image.

    Attributes:
        source: The image.
        sha256: Hash of its file.
        iterations: Number of iterations.
        seed: Seed of the run.
        kernel: The learned kernel, before it is cleaned and composed; missing if there is none.
        reason: Why there is no kernel.
    """

    source: str
    sha256: str
    iterations: int
    seed: int
    kernel: NotRequired[Annotated[list[_Row], Field(min_length=KERNEL_SIDE, max_length=KERNEL_SIDE)]]
    reason: NotRequired[str]


_FORM = TypeAdapter(Estimate)


class _Estimates(Dataset):
    """The estimates of images, each computed when it is asked for."""

    def __init__(self, pictures: list[Picture], iterations: int, seed: int) -> None:
        self.pictures, self.iterations, self.seed = pictures, iterations, seed

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Estimate:
        picture = self.pictures[index]
        found = Estimate(source=picture.source, sha256="", iterations=self.iterations, seed=self.seed)
        try:
            found["sha256"] = sha256_of(picture.path)
            image = read_image(picture.path).float() / 255
            kernel = estimate_kernel(image, self.iterations, seed_of(self.seed, picture.key, "kernel"))
            return {**found, "kernel": kernel.tolist()}
        except (NoKernel, UnreadablePicture, OSError) as error:
            return {**found, "reason": str(error)}


def estimates(record: Path, pictures: list[Picture], iterations: int, seed: int, workers: int) -> Iterator[Estimate]:
    """Estimate the kernels of images, except those in the record; the record is complete after each image.

    Args:
        record: A JSONL file of estimates. Lines of other images, settings, or versions of an image stay in it.
        pictures: The images.
        iterations: See ``estimate_kernel``.
        seed: Seed of the run; the kernel of an image depends on it and on the image's key.
        workers: Number of processes that estimate.

    Yields:
        The estimate of each image: recorded ones first, then others as they are finished.

    Raises:
        OutputError: If the record cannot be written.
    """
    lines = _read(record)
    known = {
        (one["source"], one["sha256"]): one for one in lines if (one["iterations"], one["seed"]) == (iterations, seed)
    }
    missing = []
    for picture in pictures:
        finished = known.get((picture.source, _hash(picture.path)))
        if finished is None:
            missing.append(picture)
        else:
            yield finished
    # One process needs no others: the work is done here.
    processes = 0 if workers == 1 else min(workers, len(missing))
    loader = DataLoader(
        _Estimates(missing, iterations, seed),
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=processes,
        worker_init_fn=_begin,
        in_order=False,
    )
    for estimate in loader if missing else ():
        lines.append(estimate)
        write_atomically(record, "".join(json.dumps(line) + "\n" for line in lines).encode())
        yield estimate


def read_image(path: Path) -> Tensor:
    """Read an image as (3, H, W), uint8.

    Raises:
        UnreadablePicture: See ``decode_picture``.
    """
    return torch.from_numpy(decode_picture(path)).permute(2, 0, 1)


def _read(record: Path) -> list[Estimate]:
    """Read a record; torn and foreign lines are skipped, and their images estimated again."""
    lines: list[Estimate] = []
    if record.is_file():
        with record.open("rb") as file:
            for _, line in lines_in(file):
                try:
                    lines.append(_FORM.validate_python(line))
                except ValidationError:
                    continue
    return lines


def _hash(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError:  # which the estimate will report
        return ""


def _as_it_is(estimate: Estimate) -> Estimate:
    return estimate


def _begin(worker: int) -> None:
    """Leave signals to the whole group, such as Ctrl-C, to the main process, which ends its workers by SIGTERM."""
    for number in STOPS:
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
