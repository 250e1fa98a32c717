"""Restore LQ faces once, and keep them as pairs."""

import json
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from ddpm_pairs.data.endless import channels_first, decode_or_failure
from ddpm_pairs.data.pairs import LowQualityPicture
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import append, as_output_error, encode_png, is_whole_png, lines_in, sha256_of, write_atomically
from ddpm_pairs.images.find import Failure, Picture, find_pictures
from ddpm_pairs.images.pixels import enlarged
from ddpm_pairs.pairset.records import is_key
from ddpm_pairs.restoration.restorer import Restorer
from ddpm_pairs.restoration.weights import load_restorer
from ddpm_pairs.run_folder import FolderLock, RunFolder
from ddpm_pairs.shipped import weights_file

SIDES = ("hq", "lq")
SOURCES = "sources.jsonl"
"""One line per pair: ``key``, ``source`` (the LQ file relative to ``lq_dir``), and the ``sha256`` of that file."""

Records = dict[str, dict[str, str]]
"""``source`` and ``sha256`` by key."""


def restored_faces(
    lq_dir: str | Path,
    weights: str | Path,
    output_dir: str | Path,
    device: torch.device | str | None = None,
    option: str = "--data.faces_dir",
) -> Path:
    """Restore the LQ faces of a folder, each once, and return a folder of pairs.

    The face ``<lq_dir>/<key>.<suffix>`` becomes ``<output_dir>/lq/<key>.png``, the pixels that were restored, and
    ``<output_dir>/hq/<key>.png``, the restored face. Keys contain the ``/`` of subfolders. A network that accepts only
    one side, such as GPEN, gets square faces resized to this side (bicubic, antialiased), and ``lq/`` contains them in
    that size, so both sides of a pair have the same size. For other networks, ``lq/`` contains the pixels of the file.

    Calling it again restores only faces that are new or whose file has changed, and removes pairs whose face is gone.
    Several processes may call it at the same time, such as the ranks of a run: the first one restores, and the others
    wait. Faces that cannot be restored are listed in ``<output_dir>/failures.jsonl``, and the LQ
    file of each key in ``<output_dir>/sources.jsonl``.

    Args:
        lq_dir: Folder of aligned LQ faces, searched recursively.
        weights: Weights of a restorer, see ``load_restorer``.
        output_dir: The folder of pairs.
        device: Where to restore; ``None`` uses a GPU if there is one.
        option: The command-line option that named ``lq_dir``, for error messages.

    Returns:
        ``output_dir``, which ``RestorationPairs`` and ``find_pairs`` read.

    Raises:
        UserError: If the folder or the weights are unusable, ``output_dir`` contains other files or faces restored with
            other weights, or no face can be restored.
        OutputError: If a file cannot be written.
    """
    root, lq_dir = Path(output_dir), Path(lq_dir)
    places = root.resolve(), lq_dir.resolve()
    if any(one.is_relative_to(other) for one, other in (places, places[::-1])):
        raise UserError(f"{option}: got {lq_dir}; expected a folder apart from {root}, the folder of restored faces")
    pictures, failures = find_pictures(lq_dir, option)
    checkpoint = weights_file(str(weights))
    settings = {"checkpoint_sha256": sha256_of(checkpoint)}
    folder = RunFolder(root, "run.yaml", "restored faces")
    with as_output_error(root):
        root.mkdir(parents=True, exist_ok=True)
    with FolderLock(root, wait=True):
        folder.check(settings)
        if not any(one.exists() for one in (folder.record, root / SOURCES)) and any((root / s).exists() for s in SIDES):
            raise UserError(f"{root} contains hq/ or lq/ that are not restored faces; give another folder")
        earlier = _records(root)
        now = {one.key: {"source": one.source, "sha256": sha256_of(one.path)} for one in pictures}
        kept = {key for key, one in earlier.items() if now.get(key) == one and _is_whole(root, key)}
        missing = [one for one in pictures if one.key not in kept]
        if missing or earlier.keys() - kept:
            restorer = Restorer(load_restorer(checkpoint)) if missing else None  # raises before anything is written
            folder.begin(settings)
            _keep(root, earlier, kept)
            failures += _restore(missing, now, restorer, root, device)
            failures = folder.join(failures)
        if not _records(root):
            first = next(one for one in failures if one.source == pictures[0].source)
            raise UserError(
                f"{option}: none of the {len(pictures)} faces in {str(lq_dir)!r} can be restored ({first.source}: "
                f"{first.reason}); give aligned LQ faces"
            )
    return root


def _restore(
    pictures: list[Picture], records: Records, restorer: Restorer | None, root: Path, device: torch.device | str | None
) -> list[Failure]:
    """Restore faces, and record each one when both of its files are written; return those that cannot be restored."""
    if restorer is None:
        return []
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    restorer.to(device).setup("predict")
    failures = []
    for picture in track(pictures, "restoring faces", console=Console(stderr=True)):
        pixels = decode_or_failure(picture)
        if isinstance(pixels, Failure):
            failures.append(pixels)
            continue
        lq = _at_side(channels_first(pixels), restorer.net.side)
        batch = {"pictures": [LowQualityPicture(picture.key, picture.source, lq.to(device), None)], "failures": []}
        restored, refused = restorer.predict_step(batch, 0)
        failures += refused
        for one in restored:
            for side, image in zip(SIDES, (one.pixels, lq), strict=True):
                write_atomically(_path(root, side, one.key), encode_png(image), sync=False)  # see _is_whole
            append(root / SOURCES, _line(one.key, records[one.key]))
    return failures


def _at_side(lq: Tensor, side: int | None) -> Tensor:
    """Resize a square image (3, h, w) to the only side that a network accepts."""
    return lq if side is None or lq.shape[1] != lq.shape[2] else enlarged(lq, (side, side))


def _keep(root: Path, records: Records, kept: set[str]) -> None:
    """Remove all pairs but some; a truncated line, which a killed process may leave, is removed as well."""
    for key in records.keys() - kept:
        for side in SIDES:
            _path(root, side, key).unlink(missing_ok=True)
    write_atomically(root / SOURCES, b"".join(_line(key, records[key]) for key in sorted(kept)))


def _records(root: Path) -> Records:
    """Read the source of each pair; a later line replaces an earlier one with its key, and broken lines are skipped."""
    if not (root / SOURCES).is_file():
        return {}
    with (root / SOURCES).open("rb") as file:
        lines = [line for _, line in lines_in(file) if isinstance(line, dict)]
    whole = [one for one in lines if all(isinstance(one.get(name), str) for name in ("key", "source", "sha256"))]
    return {one["key"]: {"source": one["source"], "sha256": one["sha256"]} for one in whole if is_key(one["key"])}


def _line(key: str, record: dict[str, str]) -> bytes:
    return json.dumps({"key": key} | record, ensure_ascii=False).encode() + b"\n"


def _is_whole(root: Path, key: str) -> bool:
    return all(is_whole_png(_path(root, side, key)) for side in SIDES)


def _path(root: Path, side: str, key: str) -> Path:
    return root / side / f"{key}.png"
