"""Find the pairs of ``--data.pairs_dir``: a pairs folder, packed pairs, a meta_info file, or hq/ and lq/ folders."""

from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from ddpm_pairs.errors import UserError
from ddpm_pairs.images.find import Failure, Picture, find_pictures
from ddpm_pairs.pairset.folder import MANIFESTS
from ddpm_pairs.pairset.lmdb import SIDES, find_in_lmdb
from ddpm_pairs.pairset.pairs import FoundPairs, PicturePair
from ddpm_pairs.pairset.records import (
    KINDS,
    Files,
    below_any_folder,
    content_of,
    fault_of,
    is_key,
    is_rejected,
    read_lines,
    recorded_psnr,
    variant_key,
)
from ddpm_pairs.pairset.shards import INDEX, find_in_shards

LONGEST_TEXT = 2**30
"""Maximum length of a text file in bytes."""

_SEPARATORS = ",;\t"


class NotPairsError(UserError):
    """A folder that is not a place of pairs."""


def find_pairs(place: str, option: str, include_rejected: bool = False) -> FoundPairs:
    """Find all pairs of one source without opening an image.

    * A folder with a manifest contains the pairs that the manifest lists, even if its run has not finished.
    * A packed copy contains the packed pairs under their original keys. Shards record the PSNR and which pairs are not
      accepted. LMDB does not, so all of its pairs are used.
    * Any other folder contains one pair for each key that has an image in both ``hq/`` and ``lq/``.
    * Each line of a text file is ``<HQ path>, <LQ path>``, relative to the folder of the file. A semicolon or a tab may
      separate the paths, which may contain commas and backslashes of Windows. Lines that start with ``#`` are comments.
      The key is the HQ path without its suffix and without a leading ``hq/``. Further lines with the same HQ image are
      its variants ``<key>~1``, ``<key>~2``, ...

    Args:
        place: The folder or file.
        option: Command-line option that names it, for error messages.
        include_rejected: Also use pairs that the manifest marks ``accepted: false``.

    Raises:
        NotPairsError: If the folder is none of these.
        UserError: If the source does not exist, cannot be read, or contains no pairs.
    """
    root = Path(place)
    if root.is_file():
        found = _of_text(root, option)
    elif not root.is_dir():
        raise UserError(f"{option}: {place!r} does not exist; give a pairs folder, packed pairs, or a meta_info file")
    elif (root / INDEX).is_file():
        found = find_in_shards(root, option, include_rejected)
    elif any((root / side).is_dir() for side in SIDES.values()):
        found = find_in_lmdb(root, option)
    elif any(root.glob(MANIFESTS)):
        found = _of_manifest(root, option, include_rejected)
    elif all((root / kind).is_dir() for kind in KINDS):
        found = _of_folders(root, option)
    else:
        raise NotPairsError(
            f"{option}: {place!r} is not a folder of pairs; expected manifest.jsonl, hq/ and lq/, or packed pairs "
            f"({INDEX}, or {' and '.join(SIDES.values())})"
        )
    found.pairs.sort(key=lambda pair: pair.key)
    found.failures.sort(key=lambda failure: failure.source)
    if not found.pairs and found.rejected:
        raise UserError(
            f"{option}: all {found.rejected} pairs of {place!r} are marked as not accepted; "
            "give other pairs or --data.include_rejected true"
        )
    if not found.pairs:
        first = f" ({found.failures[0].source}: {found.failures[0].reason})" if found.failures else ""
        raise UserError(f"{option}: no pairs in {place!r}{first}; give a folder that contains pairs")
    return found


def tell_apart(sources: list[FoundPairs]) -> list[FoundPairs]:
    """Prefix each key with the name of its source if there are several sources."""
    if len(sources) == 1:
        return sources
    names = [Path(found.place).stem for found in sources]
    if len(set(names)) < len(names):
        names = [f"{name}-{number}" for number, name in enumerate(names)]
    return [_below(found, name) for found, name in zip(sources, names, strict=True)]


def _below(found: FoundPairs, name: str) -> FoundPairs:
    def moved(picture: Picture) -> Picture:
        return replace(picture, key=f"{name}/{picture.key}", source=f"{name}/{picture.source}")

    pairs = [replace(p, key=f"{name}/{p.key}", hq=moved(p.hq), lq=moved(p.lq)) for p in found.pairs]
    failures = [Failure(f"{name}/{failure.source}", failure.reason) for failure in found.failures]
    return replace(found, pairs=pairs, failures=failures)


def _of_manifest(root: Path, option: str, include_rejected: bool) -> FoundPairs:
    found = FoundPairs(str(root), option)
    kept: dict[
        str, tuple[str, str, float | None, bool]
    ] = {}  # only the required fields, as there may be a million records
    for path in (path for path in sorted(root.glob(MANIFESTS)) if path.is_file()):
        for number, (_, record) in enumerate(read_lines(path), 1):
            if fault := fault_of(record):
                found.failures.append(Failure(path.name, f"line {number} is not a manifest line ({fault})"))
            else:
                kept[record["key"]] = record["hq"], record["lq"], recorded_psnr(record), is_rejected(record)
    files = Files(root)
    for key, (hq, lq, psnr, rejected) in kept.items():
        if rejected and not include_rejected:
            found.rejected += 1
        else:
            _add(found, root, key, (hq, lq), psnr, files.fault)
    return found


def _of_folders(root: Path, option: str) -> FoundPairs:
    found = FoundPairs(str(root), option)
    sides = {}
    for side in KINDS:
        pictures, failures = find_pictures(root / side, option)
        sides[side] = {picture.key: replace(picture, source=f"{side}/{picture.source}") for picture in pictures}
        found.failures += [Failure(f"{side}/{failure.source}", failure.reason) for failure in failures]
    for side, other in (("hq", "lq"), ("lq", "hq")):
        for key in sides[side].keys() - sides[other].keys():
            found.failures.append(Failure(sides[side][key].source, f"{other}/ has no image with this name"))
    both = sides["hq"].keys() & sides["lq"].keys()
    found.pairs = [PicturePair(key, sides["hq"][key], sides["lq"][key], content_of(key)) for key in both]
    return found


def _of_text(path: Path, option: str) -> FoundPairs:
    found = FoundPairs(str(path), option)
    times: dict[str, int] = {}
    for number, line in enumerate(_text_of(path, option).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        names = _two_names(line.strip(), path.parent)
        key = "" if names is None else _key(names[0])
        if not is_key(key):
            found.failures.append(Failure(path.name, f"line {number} is not `<HQ path>, <LQ path>`"))
            continue
        times[key] = times.get(key, -1) + 1
        _add(found, path.parent, variant_key(key, times[key]), names, None, partial(_missing, path.parent))
    return found


def _add(
    found: FoundPairs,
    root: Path,
    key: str,
    names: tuple[str, str],
    psnr: float | None,
    fault: Callable[[str], str | None],
) -> None:
    """Add the pair of two files, or record as failures those with a fault, such as ``does not exist``."""
    faults = [Failure(name, f"file of the pair {key!r} {wrong}") for name in names if (wrong := fault(name))]
    found.failures += faults
    if not faults:
        pictures = (Picture(key, root / name, name) for name in names)
        found.pairs.append(PicturePair(key, *pictures, content_of(key), psnr))


def _text_of(path: Path, option: str) -> str:
    """Read a text file in UTF-8, or in UTF-16 with a byte-order mark."""
    try:
        with path.open("rb") as file:
            data = file.read(LONGEST_TEXT + 1)
        if len(data) <= LONGEST_TEXT:
            return data.decode("utf-16" if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig")
    except OSError as error:
        raise UserError(f"{option}: {str(path)!r} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        pass
    raise UserError(f"{option}: {str(path)!r} is not a text file; give a folder of pairs or a meta_info file")


def _two_names(line: str, folder: Path) -> tuple[str, str] | None:
    """Split a line where both sides are files; otherwise at its only comma, or ``None`` if it has not exactly one."""
    for place in (place for place, letter in enumerate(line) if letter in _SEPARATORS):
        for side in (line, line.replace("\\", "/")):
            names = side[:place].strip(), side[place + 1 :].strip()
            if not any(_missing(folder, name) for name in names):
                return names
    first, *rest = (name.strip() for name in line.split(","))
    return (first, rest[0]) if first and len(rest) == 1 and rest[0] else None


def _missing(folder: Path, name: str) -> str | None:
    with suppress(OSError, ValueError):  # names that are too long or contain NUL
        if (folder / name).is_file():
            return None
    return "does not exist"


def _key(name: str) -> str:
    """Return the key for the path of an HQ image."""
    return below_any_folder(name.removesuffix(PurePosixPath(name).suffix)).removeprefix("hq/")
