"""How a command line of the Trainer's verbs is parsed and built: configs, options, classes, and their errors."""

import contextlib
import traceback
from argparse import ArgumentError
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ActionConfigFile, Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser

from ddpm_pairs.cli.plain_errors import causes, one_line, plain_error
from ddpm_pairs.errors import UserError
from ddpm_pairs.shipped import config_names, shipped_config

# --seed_everything overwrites them silently, so they are refused where they are typed.
LINKED = ("--model.seed", "--model.init_args.seed", "--data.seed", "--data.init_args.seed")


MOVED = {
    "ddpm_pairs.pairs.": "ddpm_pairs.synthesis.",
    "ddpm_pairs.reports.TStudy": "ddpm_pairs.study.TStudy",
    "ddpm_pairs.reports.t_study.": "ddpm_pairs.study.",
    "preset: faces": "degradation: {class_path: ddpm_pairs.degradations.OnHQGrid} with scale: 1, as pairs.yaml does",
    "preset: natural": "nothing in its place",
}
"""What configs of version 0.1 may say, and what takes its place."""


class Parser(LightningArgumentParser):
    """A parser whose errors end in one line, made by ``parse``."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the error: the parser of a class does not know under which option the class stands, its caller does."""
        raise ArgumentError(None, message) from ex


class ConfigFile(ActionConfigFile):
    """``--config``, looked up in the working directory, then among the shipped configs."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:  # noqa: ANN401
        """Read the config."""
        if isinstance(values, str) and values.endswith((".yaml", ".yml")) and not Path(values).is_file():
            found = shipped_config(values)
            if found is None:
                mains = [name for name in config_names() if "/" not in name]
                parser.error(
                    f"config {values} does not exist: expected a file, or a shipped one ({', '.join(mains)}, or one of "
                    "the overlays in parts/)"
                )
            values = str(found)
        if isinstance(values, str) and Path(values).is_file():
            _check_moved(values, parser)
        try:
            super().__call__(parser, namespace, values, option_string)
        except Exception as error:
            error.add_note(f"(in --config {values})")
            raise


def _check_moved(config: str, parser: Any) -> None:  # noqa: ANN401 - jsonargparse's
    """Refuse a config that names a class by its path of version 0.1, or an option that is gone, with what to write."""
    text = Path(config).read_text(encoding="utf-8", errors="replace")
    for before, after in MOVED.items():
        if before in text:
            parser.error(f"--config {config} names {before}: write {after}")


def configs_first(words: list[str]) -> list[str]:
    """Move every ``--config FILE`` (``-c FILE``, ``--config=FILE``) to the front, keeping their order."""
    configs, others = [], []
    rest = iter(words)
    for word in rest:
        if word in ("--config", "-c"):
            configs += [word, *[value for value in [next(rest, None)] if value is not None]]
        elif word.startswith("--config="):
            configs.append(word)
        else:
            others.append(word)
    return configs + others


def one_seed(value: int | bool) -> int:
    """What seeds model and data.

    Raises:
        UserError: For ``true``, with which Lightning draws a seed that nobody else learns.
    """
    if value is True:
        raise UserError("--seed_everything is true: expected a number, from which everything random follows")
    return int(value)


def parse(parser: LightningArgumentParser, words: list[str]) -> Namespace:
    """Parse a command line.

    Args:
        parser: The program's.
        words: The verb and its words.

    Raises:
        UserError: In one line, for a wrong command line or config. What a module raises when it is imported, other
            than that something is missing, is raised as it is.
    """
    try:
        return parser.parse_args(words)
    except ArgumentError as error:
        refused, origin = error, causes(error)[-1]
    frames = traceback.extract_tb(origin.__traceback__)
    if not isinstance(origin, ImportError) and any(frame.name == "<module>" for frame in frames):
        raise origin
    raise UserError(plain_error(refused, words[0])) from refused


@contextlib.contextmanager
def building(parser: LightningArgumentParser) -> Iterator[None]:
    """Let the classes of a config be built inside the block, with their own errors.

    jsonargparse turns what a class raises into a text of its own; here the first exception counts.

    Args:
        parser: The verb's.

    Raises:
        UserError: In one line, where a class or Lightning refuses its arguments.
        Exception: Any other exception of a class, with its own traceback.
    """
    failures: list[Exception] = []

    def build(kind: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - of any class
        try:
            return kind(*args, **kwargs)
        except Exception as error:
            failures.append(error)
            raise

    parser.add_instantiator(build, object)
    try:
        yield
        return
    except Exception as error:
        failure = failures[-1] if failures and _raised_in(error, "jsonargparse") else error
    if isinstance(failure, MisconfigurationException) or (
        isinstance(failure, ValueError | TypeError) and _raised_in(failure, "lightning")
    ):
        raise UserError(one_line(failure)) from failure
    raise failure


def _raised_in(error: BaseException, package: str) -> bool:
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals.get("__name__", "").split(".")[0] == package
