"""One pair made again from its manifest line, and compared with the files."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ddpm_pairs.diffusion.loading import load_denoiser
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import encode_png, sha256_of, write_atomically
from ddpm_pairs.images.decode import decode_picture
from ddpm_pairs.pairset.folder import PairsFolder
from ddpm_pairs.pairset.run_file import read_run
from ddpm_pairs.shipped import weights_file
from ddpm_pairs.synthesis.pair import Pair, Work
from ddpm_pairs.synthesis.provenance import generator_from_run


def main(arguments: Namespace) -> int:
    """``ddpm-pairs remake PAIRS KEY``.

    Args:
        arguments: ``pairs``, ``key``, ``ckpt_path`` and ``output_dir`` of the command line.

    Returns:
        0 if the LQ made again equals the file in every pixel, 1 if not.

    Raises:
        UserError: see ``remake``.
    """
    pair = remake(arguments.pairs, arguments.key, arguments.ckpt_path)
    on_disk = decode_picture(arguments.pairs / pair.record["lq"])
    made = pair.lq.permute(1, 2, 0).numpy()
    if arguments.output_dir is not None:
        for kind, picture in (("hq", pair.hq), ("lq", pair.lq)):
            write_atomically(arguments.output_dir / pair.record[kind], encode_png(picture))
    if made.shape == on_disk.shape and np.array_equal(made, on_disk):
        print(f"{pair.record['key']}: equal to {arguments.pairs / pair.record['lq']} in every pixel")
        return 0
    print(f"{pair.record['key']}: {_difference(made, on_disk)} from {arguments.pairs / pair.record['lq']}")
    return 1


def remake(pairs: Path, key: str, checkpoint: str | None = None) -> Pair:
    """Make the pair ``key`` again, from its line, ``run.yaml``, its HQ file and the checkpoint.

    Args:
        pairs: The pairs folder.
        key: The pair's key.
        checkpoint: The DDPM; ``None`` takes the one that ``run.yaml`` names.

    Raises:
        UserError: if folder, key or checkpoint is missing, or the checkpoint is another than the run's.
    """
    run = read_run(pairs)
    if run is None:
        raise UserError(f"{pairs} holds no run.yaml: expected a pairs folder that `lightning predict` wrote")
    record = PairsFolder(pairs).record(key)
    if record is None:
        raise UserError(f"{pairs} holds no pair with the key {key!r}: expected one of its manifest.jsonl")
    # Pairs of a mixed folder differ in what their lines tell; for the rest run.yaml speaks.
    run["settings"] |= {name: record[name] for name in ("seed", "scale", "preset", "sampler", "num_steps", "tile")}
    described, made_by = run["settings"]["degradation"]["name"], record["degradation"]["name"]
    if described != made_by or (record["t"] > 0 and run["settings"]["checkpoint_sha256"] is None):
        raise UserError(
            f"{key!r} of {pairs} comes from an earlier run than the one run.yaml describes: it cannot be remade"
        )
    generator = generator_from_run(run)
    if run["settings"]["checkpoint_sha256"] is not None:  # also at t = 0: the canvas depends on the network
        path = weights_file(checkpoint or run["places"]["checkpoint"])
        if sha256_of(path) != run["settings"]["checkpoint_sha256"]:
            raise UserError(f"checkpoint {path} is not the one that {pairs} was made with: give that by --ckpt_path")
        generator.denoiser = load_denoiser(path)
    device = torch.device(run["settings"]["device"])
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{pairs} was made on a CUDA device and none is here: remake the pair on such a machine")
    generator.to(device)
    generator.prepare(device)
    (pair,) = generator.make([_work(pairs, record)])
    return pair


def _work(pairs: Path, record: dict[str, Any]) -> Work:
    hq = torch.from_numpy(decode_picture(pairs / record["hq"])).permute(2, 0, 1)
    return Work(
        key=record["key"],
        source=record["source"],
        source_sha256=record["source_sha256"],
        hq=hq,
        t=record["t"],
        degradation=record["degradation"]["parameters"],
        hq_preparation=record["hq_preparation"],
    )


def _difference(made: np.ndarray, on_disk: np.ndarray) -> str:
    if made.shape != on_disk.shape:
        return f"{made.shape[1]}x{made.shape[0]} instead of {on_disk.shape[1]}x{on_disk.shape[0]} pixels, different"
    gap = np.abs(made.astype(int) - on_disk.astype(int))
    changed = np.count_nonzero(gap.max(axis=2))
    return f"{changed} of {gap.shape[0] * gap.shape[1]} pixels differ, by up to {gap.max()} levels,"
