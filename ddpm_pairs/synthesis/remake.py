"""``ddpm-pairs remake``: reproduce one pair from its manifest line, and compare it with its files."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ddpm_pairs.data.high_quality import Work
from ddpm_pairs.degradations import OnHQGrid, Walk
from ddpm_pairs.degradations.base import facts_of
from ddpm_pairs.degradations.by_name import build
from ddpm_pairs.degradations.learned.degradation import LEARNED_PATH
from ddpm_pairs.diffusion.denoiser import Denoiser
from ddpm_pairs.diffusion.loading import load_denoiser
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import check_writable, encode_png, sha256_of, write_atomically
from ddpm_pairs.images.decode import decode_picture
from ddpm_pairs.pairset.folder import RUN_FILE, PairsFolder, read_run
from ddpm_pairs.pairset.records import KINDS
from ddpm_pairs.shipped import weights_file
from ddpm_pairs.synthesis.generator import PairGenerator
from ddpm_pairs.synthesis.old_runs import modern_record, modern_run
from ddpm_pairs.synthesis.provenance import generator_from_run
from ddpm_pairs.trust import classes_named_by

NEEDED = {
    "degradation", "hq_preparation", "num_steps", "sampler", "scale", "seed", "source", "source_sha256", "t", "tile"
}  # fmt: skip
"""What a manifest line needs besides the names of its files."""

_INSIDE = {Walk.name: "start", OnHQGrid.name: "degradation"}
"""Where a degradation has another one inside."""


def main(arguments: Namespace) -> int:
    """Run ``ddpm-pairs remake PAIRS KEY``.

    Args:
        arguments: ``pairs``, ``key``, ``ckpt_path``, ``degradation`` and ``output_dir`` of the command line.

    Returns:
        0 if the reproduced LQ equals the file in every pixel, 1 otherwise.

    Raises:
        UserError: See ``remake``.
    """
    out = arguments.output_dir
    if out is not None:
        if out.resolve().is_relative_to(arguments.pairs.resolve()):
            raise UserError(f"--output_dir {out} is inside the pairs folder {arguments.pairs}; give another folder")
        check_writable(out)
    pair = remake(arguments.pairs, arguments.key, arguments.ckpt_path, arguments.degradation)
    on_disk = decode_picture(arguments.pairs / pair.record["lq"])
    made = pair.lq.permute(1, 2, 0).numpy()
    if out is not None:
        places = PairsFolder(out).paths([pair.record[kind] for kind in KINDS])
        for place, picture in zip(places, (pair.hq, pair.lq), strict=True):
            write_atomically(place, encode_png(picture))
    if made.shape == on_disk.shape and np.array_equal(made, on_disk):
        print(f"{pair.record['key']}: equal to {arguments.pairs / pair.record['lq']} in every pixel")
        return 0
    print(f"{pair.record['key']}: {_difference(made, on_disk)} from {arguments.pairs / pair.record['lq']}")
    return 1


def remake(pairs: Path, key: str, checkpoint: str | None = None, weights: str | None = None) -> Work:
    """Reproduce a pair from its manifest line, ``run.yaml``, its HQ file and the checkpoint.

    Args:
        pairs: The pairs folder.
        key: The key of the pair.
        checkpoint: The DDPM; ``None`` uses the one named in ``run.yaml``.
        weights: The weights of a learned degradation; ``None`` uses those named in ``run.yaml``.

    Returns:
        The pair, with ``hq``, ``lq`` and ``record``.

    Raises:
        UserError: If the folder, the key, or the checkpoint does not exist, the checkpoint is not the one of the run,
            or the pair cannot be reproduced on this machine or from this folder.
    """
    run = read_run(pairs)
    if run is None:
        raise UserError(f"{pairs} contains no run.yaml; expected a pairs folder written by `lightning predict`")
    record = PairsFolder(pairs).record(key)
    if record is None:
        raise UserError(f"KEY: got {key!r}; expected the key of a pair in {pairs / 'manifest.jsonl'}")
    if missing := sorted(NEEDED - record.keys()):
        raise UserError(
            f"{key!r} in {pairs} was not made by `lightning predict` (its line lacks {missing[0]}); such a pair "
            "cannot be remade"
        )
    if not _complete(record["degradation"], "parameters"):
        raise UserError(f"{key!r} in {pairs} does not fully describe its degradation; such a pair cannot be remade")
    with classes_named_by(str(pairs / RUN_FILE)):
        run = modern_run(run)
        record = modern_record(record, run["settings"]["checkpoint_sha256"] is not None)
        if not _complete(run["settings"]["degradation"], "init_args"):
            raise UserError(f"{pairs / RUN_FILE} does not fully describe its degradation; such pairs cannot be remade")
        run["settings"] = _settings_of(record, run["settings"])
        if weights is not None:
            run["settings"]["degradation"] = _with_weights(run["settings"]["degradation"], weights)
        made_by, described = record["degradation"], run["settings"]["degradation"]
        if _names(made_by, "parameters") != _names(described, "init_args"):
            raise UserError(
                f"{key!r} in {pairs} cannot be remade; it was made by an earlier run than the one that run.yaml "
                "describes"
            )
        denoiser = None
        if run["settings"]["checkpoint_sha256"] is not None:
            denoiser = _denoiser(pairs, run, checkpoint)
        generator = generator_from_run(run, denoiser)
    device = torch.device(run["settings"]["device"])
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{pairs} was made on a CUDA device, but this machine has none; use a machine with one")
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"{pairs} was made on the device {device.type}; pairs are remade on cpu or cuda only")
    generator.to(device)
    generator.prepare(device)
    try:
        (pair,) = generator.make([_work(pairs, record, generator)])
    except UserError:
        raise
    except Exception as error:
        if _is_drawn(record, generator):  # the line is as `predict` wrote it, so this is a bug
            raise
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise UserError(
            f"{key!r} in {pairs} cannot be remade ({reason}); its degradation is not what its seed draws"
        ) from error
    return pair


def _complete(entry: Any, inner: str) -> bool:  # noqa: ANN401 - whatever a file has
    """Return whether a degradation in a manifest line or in ``run.yaml`` is described, with those inside it."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not isinstance(entry.get(inner), dict):
        return False
    if inner == "init_args" and entry["name"] == Walk.name and not isinstance(entry[inner].get("sampling"), dict):
        return False
    return entry["name"] not in _INSIDE or _complete(entry[inner].get(_INSIDE[entry["name"]]), inner)


def _is_drawn(record: dict[str, Any], generator: PairGenerator) -> bool:
    """Check whether the parameters in a record are those that its seed draws."""
    drawn = generator.draw(Work(record["key"], record["source"]))
    same = {"parameters": drawn.parameters} == {"parameters": record["degradation"]["parameters"]}
    return same and record["hq_preparation"].keys() == drawn.hq_preparation.keys()


def _settings_of(record: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Update the settings with those of a manifest line; the pairs of a mixed folder may differ."""
    spec, entry = settings["degradation"], record["degradation"]
    is_walk = spec["name"] == "walk"
    if is_walk and entry["name"] != "walk":  # made without a walk
        settings, spec, is_walk = settings | {"checkpoint_sha256": None}, spec["init_args"]["start"], False
    if is_walk:
        arguments = spec["init_args"]
        sampling = arguments["sampling"] | {name: record[name] for name in ("sampler", "num_steps")}
        start = _fitted(arguments["start"], entry["parameters"]["start"], record["scale"])
        spec = spec | {"init_args": arguments | {"sampling": sampling, "tile": record["tile"], "start": start}}
    else:
        spec = _fitted(spec, entry, record["scale"])
    return settings | {"degradation": spec} | {name: record[name] for name in ("seed", "scale", "tile")}


def _with_weights(value: Any, weights: str) -> Any:  # noqa: ANN401 - plain values of any kind
    """Replace the path of the weights of every learned degradation in a description."""
    if isinstance(value, list):
        return [_with_weights(one, weights) for one in value]
    if not isinstance(value, dict):
        return value
    value = {name: _with_weights(one, weights) for name, one in value.items()}
    if value.get("class_path") == LEARNED_PATH:
        value["init_args"] = {"weights": weights}
    return value


def _fitted(spec: dict[str, Any], entry: dict[str, Any], scale: int) -> dict[str, Any]:
    """Adapt a description to the scale of a line, and to whether that pair was made on the HQ grid."""
    inner = entry["parameters"].get("degradation")
    if entry["name"] == OnHQGrid.name and inner is not None and inner["name"] == spec["name"]:
        return OnHQGrid(build(_rescaled(spec, 4))).spec()
    if spec["name"] == OnHQGrid.name and spec["init_args"]["degradation"]["name"] == entry["name"]:
        spec = spec["init_args"]["degradation"]
    return _rescaled(spec, scale)


def _rescaled(spec: dict[str, Any], scale: int) -> dict[str, Any]:
    arguments = spec["init_args"]
    return spec | {"init_args": arguments | {"scale": scale}} if "scale" in arguments else spec


def _names(entry: dict[str, Any], inner: str) -> list[str]:
    """Return the names of a degradation and of those inside it, from a manifest entry or from ``run.yaml``."""
    nested = [one for one in entry[inner].values() if isinstance(one, dict) and {"name", inner} <= one.keys()]
    return [entry["name"], *(name for one in nested for name in _names(one, inner))]


def _denoiser(pairs: Path, run: dict[str, Any], checkpoint: str | None) -> Denoiser:
    asked = checkpoint or run["places"]["checkpoint"]
    if asked is None:
        raise UserError(f"{pairs} was made with a DDPM that was not loaded from a file; set --ckpt_path to its weights")
    path, expected = weights_file(asked), run["settings"]["checkpoint_sha256"]
    denoiser = load_denoiser(path)  # before hashing: a foreign run.yaml may name any file or folder
    if sha256_of(path) != expected:
        denoiser.source = None
        if denoiser.sha256() != expected:
            raise UserError(f"checkpoint {path} is not the one that made {pairs}; set --ckpt_path to that one")
    return denoiser


def _work(pairs: Path, record: dict[str, Any], generator: PairGenerator) -> Work:
    parameters = record["degradation"]["parameters"]
    return Work(
        key=record["key"],
        source=record["source"],
        sha256=record["source_sha256"],
        hq=torch.from_numpy(decode_picture(pairs / record["hq"])).permute(2, 0, 1),
        parameters=parameters,
        hq_preparation=record["hq_preparation"],
        facts=facts_of(generator.degradation)(parameters),
    )


def _difference(made: np.ndarray, on_disk: np.ndarray) -> str:
    if made.shape != on_disk.shape:
        return f"{made.shape[1]}x{made.shape[0]} instead of {on_disk.shape[1]}x{on_disk.shape[0]} pixels, different"
    gap = np.abs(made.astype(int) - on_disk.astype(int))
    changed = np.count_nonzero(gap.max(axis=2))
    return f"{changed} of {gap.shape[0] * gap.shape[1]} pixels differ, by up to {gap.max()} levels,"
