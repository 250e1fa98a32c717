"""``ddpm-pairs bank``: read codes of degradations from faces, and write them as a degradation."""

import math
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from ddpm_pairs.bank.codes_map import measured_blur, measured_noise, save_codes_map
from ddpm_pairs.bank.content import Retrieval, codes_of_degraded, retrieval
from ddpm_pairs.bank.faces import Crops, Face, find_faces, of_source, photograph_of, read_face
from ddpm_pairs.bank.sheet import SHOWN, Shown, hq_to_show, save_bank_sheet
from ddpm_pairs.degradations.base import SCALES
from ddpm_pairs.degradations.handcrafted.redegnet_chain import ReDegNetChain
from ddpm_pairs.degradations.learned.files import check_new_file, save_synthesizer
from ddpm_pairs.degradations.learned.redegnet.bank import CodeBank
from ddpm_pairs.degradations.learned.redegnet.networks import ReDegNet
from ddpm_pairs.degradations.learned.redegnet.reader import load_reader
from ddpm_pairs.errors import UserError
from ddpm_pairs.faces.restored import restored_faces
from ddpm_pairs.files import check_writable, sha256_of
from ddpm_pairs.images.find import Failure
from ddpm_pairs.pairset.sources import NotPairsError
from ddpm_pairs.plain_text import print_plain, printable
from ddpm_pairs.reports.contact_sheet import spread
from ddpm_pairs.run_folder import FAILURES, read_failures
from ddpm_pairs.tensors import full_float32

COMPARED = 64
"""Maximum number of faces whose codes are compared to find how much of a code is content."""


def main(arguments: Namespace) -> int:
    """Run ``ddpm-pairs bank CKPT FACES OUT.safetensors``.

    Args:
        arguments: ``ckpt``, ``faces``, ``out``, ``restorer``, ``only``, ``noise``, ``scale``, ``hq`` and ``seed`` of
            the command line.

    Returns:
        0.

    Raises:
        UserError: If an option, the checkpoint, or the faces are unusable, or no face gives a code.
        OutputError: If a file cannot be written.
    """
    _check(arguments)
    check_writable(arguments.out.parent)
    net, training = load_reader(arguments.ckpt)
    hq = hq_to_show(arguments.hq, math.lcm(net.syn.multiple, arguments.scale))
    faces, failures = _faces(arguments)
    net.to("cuda" if torch.cuda.is_available() else "cpu")
    kept, codes, measured = _read(net, faces, failures)
    found = _content(net, kept, arguments.seed)
    bank = CodeBank(arguments.scale, [face.source for face in kept], **net.syn.init_args, noise=arguments.noise)
    bank.load_state_dict({f"syn.{name}": value for name, value in net.syn.state_dict().items()} | {"codes": codes})
    save_synthesizer(bank, arguments.out, _training(arguments, training, len(faces), found))
    sheet, chart = (arguments.out.with_suffix(suffix) for suffix in (".png", ".codes.png"))
    name = arguments.faces.resolve().name
    save_bank_sheet(sheet, bank.to(codes.device), hq, _shown(kept, measured, net.size), name)
    blur, noise = map(list, zip(*measured, strict=True))
    save_codes_map(chart, codes.cpu(), blur, noise, f"{name}: {len(kept)} codes\n{found or ''}")
    for failure in failures:
        print(printable(f"skipped {failure.source}: {failure.reason}"), file=sys.stderr)
    sources = len({photograph_of(face) for face in kept})
    print_plain(f"codes    {len(kept)} from {len(faces)} faces, of {sources} sources")
    print_plain(f"content  {found or 'not measured: it takes two faces'}")
    print_plain(
        f"wrote    {arguments.out}, {sheet} and {chart}; use it as --model.degradation {arguments.out} "
        f"--model.scale {arguments.scale}"
    )
    return 0


def _check(arguments: Namespace) -> None:
    check_new_file(arguments.out, arguments.faces, "FACES")
    if arguments.scale not in SCALES:
        raise UserError(f"--scale: got {arguments.scale}; expected one of {', '.join(map(str, SCALES))}")


def _faces(arguments: Namespace) -> tuple[list[Face], list[Failure]]:
    """Find the faces, after restoring them into a folder next to OUT if there is a restorer."""
    if arguments.restorer is None:
        try:
            faces, failures = find_faces(str(arguments.faces))
        except NotPairsError as error:
            raise UserError(f"{error}, or a folder of LQ faces with --restorer") from None
    else:
        place = restored_faces(arguments.faces, arguments.restorer, arguments.out.with_suffix(".faces"), None, "FACES")
        faces, failures = find_faces(str(place))
        failures += read_failures(place / FAILURES)
    return (faces if arguments.only is None else of_source(faces, arguments.only)), failures


@torch.no_grad()
def _read(
    net: ReDegNet, faces: list[Face], failures: list[Failure]
) -> tuple[list[Face], Tensor, list[tuple[float, float]]]:
    """Read a code from each face.

    Returns:
        The faces that have one, their codes (N, code), and the measured blur and noise of each.
    """
    device = next(net.parameters()).device
    kept, codes, measured = [], [], []
    for face in track(faces, "codes", console=Console(stderr=True)):
        crops = read_face(face, net.size)
        if isinstance(crops, Failure):
            failures.append(crops)
            continue
        with full_float32(device):
            codes.append(net.deg(*(_batch([one], device) for one in (crops.hq, crops.lq))))
        kept.append(face)
        measured.append((measured_blur(crops.hq, crops.lq), measured_noise(crops.native)))
    if not kept:
        raise UserError(
            f"FACES: none of {len(faces)} faces gave a code ({failures[-1].source}: {failures[-1].reason}); use other "
            "faces"
        )
    return kept, torch.cat(codes), measured


def _content(net: ReDegNet, faces: list[Face], seed: int) -> Retrieval | None:
    """Compare the codes of known degradations of the restored faces; ``None`` if there is only one face."""
    device = next(net.parameters()).device
    chosen = [_crops(faces[place], net.size).hq for place in spread(len(faces), COMPARED)]
    if len(chosen) < 2:
        return None
    return retrieval(codes_of_degraded(net.deg, _batch(chosen, device), ReDegNetChain(), seed))


def _shown(faces: list[Face], measured: list[tuple[float, float]], size: int) -> list[Shown]:
    shown = []
    for place in spread(len(faces), SHOWN):
        blur, noise = measured[place]
        text = f"detail {-blur:+.1f} dB   noise {noise:.1f}/255"
        shown.append(Shown(place, _crops(faces[place], size).native, text))
    return shown


def _crops(face: Face, size: int) -> Crops:
    """Read a face again."""
    crops = read_face(face, size)
    if isinstance(crops, Failure):
        raise UserError(f"FACES: {crops.source} changed while it was used ({crops.reason}); rerun")
    return crops


def _batch(images: list[Tensor], device: torch.device) -> Tensor:
    return torch.stack(images).to(device).float() / 255


def _training(arguments: Namespace, training: dict[str, Any], faces: int, found: Retrieval | None) -> dict[str, Any]:
    """Return what the file says about its origin."""
    return {
        "reader": {"sha256": sha256_of(arguments.ckpt), "training": training},
        "faces_dir": arguments.faces.resolve().name,
        "faces": faces,
        "restorer": None if arguments.restorer is None else Path(arguments.restorer).name,
        "only": arguments.only,
        "seed": arguments.seed,
        "content": None if found is None else found.plain(),
    }
