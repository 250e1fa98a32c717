"""The program behind ``lightning``, ``ddpm-pairs`` and ``python -m ddpm_pairs``.

This module does not import torch, so that help, version and ``doctor`` answer at once, even if torch is broken. The
module that implements a verb is imported when the verb is called.
"""

import argparse
import contextlib
import importlib
import importlib.util
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from ddpm_pairs import __version__
from ddpm_pairs.errors import UserError, limit_of_machine
from ddpm_pairs.plain_text import printable
from ddpm_pairs.stopping import STOPS, exit_status, stop
from ddpm_pairs.trust import HELP as TRUST_HELP
from ddpm_pairs.trust import OPTION as TRUST_OPTION
from ddpm_pairs.trust import trust_words

LIGHTNING_VERBS = {
    "fit": "train a DDPM on LQ images, or a restorer on pairs",
    "validate": "evaluate a checkpoint on the validation images",
    "test": "score a restorer, or run the t study of a DDPM",
    "predict": "make pairs from HQ images, or restore LQ images",
}
"""Verbs of LightningCLI with their help texts."""

OWN_VERBS = {
    "demo": "ddpm_pairs.demo.main",
    "preview": "ddpm_pairs.reports.preview.main",
    "calibrate": "ddpm_pairs.synthesis.calibrate",
    "pools": "ddpm_pairs.pools.main",
    "bank": "ddpm_pairs.bank.main",
    "score": "ddpm_pairs.reports.scoring.main",
    "remake": "ddpm_pairs.synthesis.remake",
    "verify": "ddpm_pairs.pairset.verify",
    "merge": "ddpm_pairs.pairset.merge",
    "pack": "ddpm_pairs.pairset.pack",
    "export": "ddpm_pairs.export",
    "dashboard": "ddpm_pairs.reports.wandb.dashboard",
    "doctor": "ddpm_pairs.cli.doctor",
}
"""Our own verbs, each with a module whose ``main(arguments: argparse.Namespace) -> int`` does the work."""


LARGEST_SEED = 2**32 - 1


class _Parser(argparse.ArgumentParser):
    """A parser that reports errors in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, printable(f"ddpm-pairs: error: {message}; see '{self.prog} --help'\n"))


def main(argv: list[str] | None = None) -> int:
    """Run the program.

    If the first word is not one of our verbs, Lightning's cloud client handles it if installed: it provides a
    ``lightning`` command too, and shares no verb with ours.

    Args:
        argv: Words after the program's name; ``None`` uses those of the process. They are never rewritten, because
            Lightning starts further ranks by repeating ``sys.argv``.

    Returns:
        The exit status: 0 for success, 2 for a user error (one line on stderr), 130 after Ctrl-C, 143 after SIGTERM,
        129 after SIGHUP.

    Raises:
        SystemExit: After help and version (0), and for arguments that do not parse (2).
    """
    argv = sys.argv[1:] if argv is None else argv
    first = argv[0] if argv else "--help"
    try:
        with _orderly_stops():
            return _run(first, argv)
    except KeyboardInterrupt as error:
        print("ddpm-pairs: interrupted; to resume, rerun the same command", file=sys.stderr)
        return exit_status(error)
    except Exception as error:
        reason = limit_of_machine(error)
        if reason is None:
            raise
        return _user_error(reason)


@contextlib.contextmanager
def _orderly_stops() -> Iterator[None]:
    """Let SIGTERM and SIGHUP interrupt the block as Ctrl-C does; signals with a handler, or ignored ones, stay so."""
    ours = [number for number in STOPS if signal.getsignal(number) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        ours = []  # Python allows handlers only in the main thread
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _run(first: str, argv: list[str]) -> int:
    if first in LIGHTNING_VERBS:
        return importlib.import_module("ddpm_pairs.cli.trainer").run(argv)
    if first in OWN_VERBS:
        return _run_own_verb(first, argv[1:])
    if not first.startswith("-"):
        return _hand_over(first)
    _program_parser().parse_args([first])
    return _user_error(f"got '{first}'; expected a verb; see 'ddpm-pairs --help'")


def _run_own_verb(verb: str, words: list[str]) -> int:
    arguments = _verb_parsers()[verb].parse_args(words)
    try:
        trust_words(getattr(arguments, "trust_classes", None))
        return importlib.import_module(OWN_VERBS[verb]).main(arguments)
    except UserError as error:
        return _user_error(" ".join(str(error).splitlines()))


def _hand_over(word: str) -> int:
    """Run Lightning's cloud client, which reads ``sys.argv`` itself, for a word that is not one of our verbs."""
    if importlib.util.find_spec("lightning_sdk") is not None:
        return importlib.import_module("lightning_sdk.cli.entrypoint").main_cli()
    verbs = ", ".join([*LIGHTNING_VERBS, *OWN_VERBS])
    return _user_error(
        f"got the unknown verb '{word}'; expected one of {verbs} (Lightning Fabric's launcher is called 'fabric')"
    )


def _user_error(message: str) -> int:
    print(printable(f"ddpm-pairs: error: {message}"), file=sys.stderr)
    return 2


def _program_parser() -> _Parser:
    """Return the parser of the options before a verb; its help lists the verbs."""
    lightning_verbs = [f"  {verb:<11}{summary}" for verb, summary in LIGHTNING_VERBS.items()]
    own_verbs = [f"  {verb:<11}{parser.description}" for verb, parser in _verb_parsers().items()]
    parser = _Parser(
        prog="ddpm-pairs",
        allow_abbrev=False,
        usage="ddpm-pairs [--help] [--version] VERB ...",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Realistic HQ-LQ training pairs for image restoration.\n"
        "'lightning', 'ddpm-pairs' and 'python -m ddpm_pairs' are the same program.",
        epilog="\n".join(
            [
                "verbs that run Lightning's Trainer, each with --config FILE.yaml:",
                *lightning_verbs,
                "",
                "other verbs:",
                *own_verbs,
                "",
                "Run 'ddpm-pairs VERB --help' for the options of a verb. A config such as ddpm.yaml is looked up in",
                "the working directory, then among the configs shipped with the package.",
            ]
        ),
    )
    parser.add_argument("--version", action="version", version=f"ddpm_pairs {__version__}")
    return parser


def _path(text: str) -> Path:
    """Return a path; an empty one would be the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("got an empty name; expected a path")
    return Path(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) > LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"got {text!r}; expected a number from 0 to {LARGEST_SEED}")
    return int(text)


def _verb_parsers() -> dict[str, _Parser]:
    """Return the parsers of our own verbs, in the order of the help."""

    def parser(verb: str, description: str) -> _Parser:
        return _Parser(prog=f"ddpm-pairs {verb}", description=description, allow_abbrev=False)

    demo = parser("demo", "run the full pipeline on bundled images (about 4 minutes)")
    demo.add_argument("--output_dir", type=_path, default=Path("demo"), help="output folder (default: demo)")
    demo.add_argument("--pretrained", action="store_true", help="use the bundled DDPM instead of training one")
    demo.add_argument("--seed", type=_seed, default=0, help="random seed (default: 0)")

    preview = parser("preview", "show random degradations as contact sheets, and their parameters as histograms")
    preview.add_argument(
        "--degradation",
        required=True,
        nargs="+",
        metavar="NAME",
        help="a name (bicubic, classical, classical_faces, bsrgan, real_esrgan, gaussian_noise), a class path, a YAML "
        "file, or a weights file; if there are several, they are also shown side by side",
    )
    preview.add_argument(
        "--data.hq_dir", dest="hq_dir", type=_path, required=True, metavar="DIR", help="folder of HQ images"
    )
    preview.add_argument("--output_dir", type=_path, default=Path("preview"), help="output folder (default: preview)")
    preview.add_argument(
        "--scale", type=int, help="HQ size divided by LQ size (default: the degradation's own; 4 for a name)"
    )
    preview.add_argument("--draws", type=int, default=4, help="random degradations per image (default: 4)")
    preview.add_argument("--pictures", type=int, default=6, help="images to show, evenly sampled (default: 6)")
    preview.add_argument("--seed", type=_seed, default=0, help="random seed (default: 0)")
    preview.add_argument(TRUST_OPTION, metavar="NAMES", help=TRUST_HELP)

    calibrate = parser("calibrate", "fit the initial degradation to your LQ images and write it as a config")
    calibrate.add_argument(
        "pairs", type=_path, metavar="PAIRS", help="pairs made by 'predict --model.degradation bicubic' with your t"
    )
    calibrate.add_argument("lq_dir", type=_path, metavar="LQ_DIR", help="folder of real LQ images")
    calibrate.add_argument("out", type=_path, metavar="OUT", help="config to write: NAME.yaml")

    pools = parser("pools", "collect blur kernels and noise patches of LQ images as a degradation (RealSR)")
    pools.add_argument("lq_dir", type=_path, metavar="LQ_DIR", help="folder of real LQ images")
    pools.add_argument("out", type=_path, metavar="OUT", help="file to write: NAME.safetensors; also NAME.png")
    pools.add_argument("--scale", type=int, default=4, help="HQ size divided by LQ size: 2 or 4 (default: 4)")
    pools.add_argument("--kernels", type=int, default=100, help="images to estimate a kernel from (default: 100)")
    pools.add_argument("--iterations", type=int, default=3000, help="training steps per kernel (default: 3000)")
    pools.add_argument("--patch", type=int, default=32, metavar="PX", help="side of noise patches (default: 32)")
    pools.add_argument("--patches", type=int, default=1000, help="maximum number of noise patches (default: 1000)")
    pools.add_argument(
        "--variance", type=float, default=20, help="gray variance below which a patch is flat (default: 20)"
    )
    pools.add_argument("--mean", type=float, default=0, help="gray mean above which a patch is used (default: 0)")
    pools.add_argument("--seed", type=_seed, default=0, help="random seed (default: 0)")
    pools.add_argument("--workers", type=int, help="processes, each with its own images (default: all cores)")

    bank = parser("bank", "read the degradations of faces with ReDegNet, as codes to render on any image")
    bank.add_argument("ckpt", type=_path, metavar="CKPT", help="checkpoint of 'fit --config redegnet.yaml'")
    bank.add_argument(
        "faces",
        type=_path,
        metavar="FACES",
        help="pairs of restored faces (hq) and LQ faces (lq); with --restorer, a folder of aligned LQ faces",
    )
    bank.add_argument(
        "out", type=_path, metavar="OUT", help="file to write: NAME.safetensors; also NAME.png and NAME.codes.png"
    )
    bank.add_argument("--restorer", metavar="W", help="weights that restore the LQ faces first, into NAME.faces/")
    bank.add_argument(
        "--only", metavar="SOURCE", help="use only the faces of one photograph or folder (default: all faces)"
    )
    bank.add_argument("--noise", action="store_true", help="add white noise to 40%% of the rendered images")
    bank.add_argument("--scale", type=int, default=4, help="HQ size divided by LQ size: 1, 2, or 4 (default: 4)")
    bank.add_argument("--hq", type=_path, metavar="FILE", help="HQ image to show in NAME.png (default: a cat)")
    bank.add_argument("--seed", type=_seed, default=0, help="random seed (default: 0)")
    bank.add_argument(TRUST_OPTION, metavar="NAMES", help=TRUST_HELP)

    remake = parser("remake", "reproduce one pair from its manifest line and compare it with the file")
    remake.add_argument("pairs", type=_path, metavar="PAIRS", help="pairs folder written by 'predict'")
    remake.add_argument("key", metavar="KEY", help="key of the pair in the manifest")
    remake.add_argument("--ckpt_path", metavar="F", help="checkpoint or export (default: as recorded in run.yaml)")
    remake.add_argument(
        "--degradation", metavar="F", help="weights of its learned degradation (default: as recorded in run.yaml)"
    )
    remake.add_argument("--output_dir", type=_path, metavar="DIR", help="also write the pair to this folder")
    remake.add_argument(TRUST_OPTION, metavar="NAMES", help=TRUST_HELP)

    verify = parser(
        "verify", "check every file against the manifest; report missing, truncated, modified, and orphaned files"
    )
    verify.add_argument("pairs", type=_path, metavar="PAIRS", help="pairs folder written by 'predict'")
    verify.add_argument(
        "--fix", action="store_true", help="remove damaged and orphaned files, so that 'predict' makes the pairs again"
    )

    merge = parser(
        "merge", "join the manifests of an interrupted multi-GPU 'predict' (a finished one has done so already)"
    )
    merge.add_argument("pairs", type=_path, metavar="PAIRS", help="pairs folder written by 'predict'")

    pack = parser("pack", "pack a pairs folder into WebDataset shards, LMDB as BasicSR reads it, or a plain folder")
    pack.add_argument("pairs", type=_path, metavar="PAIRS", help="pairs folder written by 'predict'")
    pack.add_argument("out", type=_path, metavar="OUT", help="folder to create; it appears when everything is packed")
    pack.add_argument("--format", required=True, choices=("webdataset", "lmdb", "folder"), help="output format")
    pack.add_argument("--flat", action="store_true", help="folder: no folders inside hq/ and lq/, for BasicSR")
    pack.add_argument("--include_rejected", action="store_true", help="include pairs that were not accepted")
    pack.add_argument(
        "--shard_size",
        type=int,
        default=512,
        metavar="MB",
        help="webdataset: maximum size of a shard in MB (default: 512)",
    )

    score = parser("score", "compare two folders of images: FID, KID, LPIPS, PSNR, SSIM")
    score.add_argument("result", type=_path, metavar="RESULT", help="folder of images to score")
    score.add_argument("reference", type=_path, metavar="REFERENCE", help="folder of reference images")
    score.add_argument("--output_dir", type=_path, required=True, metavar="DIR", help="output folder")
    score.add_argument(
        "--metrics",
        default="fid,kid,lpips,psnr,ssim",
        metavar="LIST",
        help="metrics to compute (default: fid,kid,lpips,psnr,ssim); the last three compare images with equal names",
    )
    score.add_argument(
        "--patch", type=int, metavar="PX", help="compare sets on native patches of this size (default: whole images)"
    )

    export = parser("export", "write the weights of a DDPM or a restorer for other programs")
    export.add_argument("ckpt", metavar="CKPT", help="checkpoint or weights file, or the name of bundled weights")
    export.add_argument(
        "out",
        type=_path,
        metavar="OUT",
        help="NAME.safetensors; NAME.pth for a restorer; NAME for a DDPM as a diffusers folder",
    )
    export.add_argument("--half", action="store_true", help="store the weights as float16")
    export.add_argument(TRUST_OPTION, metavar="NAMES", help=TRUST_HELP)

    dashboard = parser("dashboard", "create a W&B workspace with panels for fits, the t study, and pairs")
    dashboard.add_argument("--entity", required=True, metavar="E", help="W&B user or team")
    dashboard.add_argument("--project", required=True, metavar="P", help="W&B project")
    dashboard.add_argument("--dry-run", action="store_true", help="print the panels; needs no account or network")

    doctor = parser("doctor", "check packages, devices, metric weights, and who owns the command 'lightning'")
    return {
        "demo": demo,
        "preview": preview,
        "calibrate": calibrate,
        "pools": pools,
        "bank": bank,
        "score": score,
        "remake": remake,
        "verify": verify,
        "merge": merge,
        "pack": pack,
        "export": export,
        "dashboard": dashboard,
        "doctor": doctor,
    }
