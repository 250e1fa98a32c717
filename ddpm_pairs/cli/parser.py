"""Parse the command line of the Trainer's verbs and build its classes, with errors in one line."""

import contextlib
import re
import traceback
from argparse import ArgumentError
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import ActionConfigFile, Namespace, get_loader, set_loader
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser

from ddpm_pairs.bounded_yaml import read_yaml
from ddpm_pairs.cli.plain_errors import causes, one_line, plain_error
from ddpm_pairs.errors import UserError
from ddpm_pairs.shipped import config_names, shipped_config

# --seed_everything would silently override these, so they are rejected on the command line.
LARGEST_SEED = 2**32 - 1
"""Largest seed that NumPy takes."""

LINKED = ("--model.seed", "--model.init_args.seed", "--data.seed", "--data.init_args.seed")


MOVED = {
    r"ddpm_pairs\.pairs\b": "replace it with ddpm_pairs.synthesis",
    r"ddpm_pairs\.reports\.TStudy": "replace it with ddpm_pairs.study.TStudy",
    r"ddpm_pairs\.reports\.t_study\.": "replace it with ddpm_pairs.study.",
    r"preset: *['\"]?faces": "use the class ddpm_pairs.degradations.OnHQGrid and scale: 1, as in pairs.yaml",
    r"preset: *['\"]?natural": "remove it",
}
"""Class paths and options in configs of version 0.1, each with its replacement."""


_load_yaml = get_loader("yaml")


def _load_options(text: str) -> Any:  # noqa: ANN401 - plain values of any kind
    """Load YAML, but refuse plain text of several lines.

    jsonargparse reads every file that is given where a class is expected. Without options in it, the file is not a
    config, and its content must not be printed in an error.
    """
    value = _load_yaml(text)
    if isinstance(value, str) and "\n" in text:
        raise yaml.YAMLError("got a file without options; expected a class path, or a YAML file with one")
    return value


set_loader("yaml", _load_options, (yaml.YAMLError,))


class Parser(LightningArgumentParser):
    """A parser that raises its errors; ``parse`` reduces them to one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the error; the parser of a class does not know the option that names the class, but its caller does."""
        raise ArgumentError(None, message) from ex


class ConfigFile(ActionConfigFile):
    """``--config``, looked up in the working directory, then among the shipped configs."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:  # noqa: ANN401
        """Read the config."""
        if isinstance(values, str) and "\0" in values:
            parser.error(f"--config: got {values!r:.80}; expected a file or a shipped config")
        if isinstance(values, str) and values.endswith((".yaml", ".yml")) and not Path(values).is_file():
            found = shipped_config(values)
            if found is None:
                nearest = ", ".join(get_close_matches(values, config_names(), n=6, cutoff=0))
                parser.error(
                    f"config {values} does not exist; expected a file or a shipped config (nearest names: {nearest})"
                )
            values = str(found)
        elif isinstance(values, str) and Path(values).is_file():
            _check_user_config(values, parser)
        try:
            super().__call__(parser, namespace, values, option_string)
        except Exception as error:
            error.add_note(f"(in --config {values})")
            raise


def _check_user_config(config: str, parser: Any) -> None:  # noqa: ANN401 - jsonargparse's
    """Refuse a config that is not a mapping, is unbounded, or is of version 0.1, and name its replacement."""
    try:
        content = read_yaml(Path(config))
    except UserError as error:
        parser.error(f"--config {error}")
    if content is not None and not isinstance(content, dict):
        parser.error(f"--config {config} contains a {type(content).__name__}; expected options and their values")
    if "config" in (content or {}):
        parser.error(f"--config {config} contains the option config; give several --config instead")
    try:
        lines = Path(config).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        parser.error(f"--config {config} is not encoded as UTF-8; save it as UTF-8")
    text = "\n".join(line.partition("#")[0] for line in lines)
    for before, advice in MOVED.items():
        if found := re.search(before, text):
            parser.error(f"--config {config}: got {found[0]!r} of version 0.1; {advice}")


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
    """Return the seed of model and data.

    Raises:
        UserError: If the seed is ``true``, since Lightning would draw one without passing it on, or out of range.
    """
    if value is True or not 0 <= value <= LARGEST_SEED:
        raise UserError(f"--seed_everything: got {str(value).lower()}; expected a number from 0 to {LARGEST_SEED}")
    return int(value)


def parse(parser: LightningArgumentParser, words: list[str]) -> Namespace:
    """Parse a command line.

    Args:
        parser: The parser of the program.
        words: The verb and the words after it.

    Raises:
        UserError: If the command line or a config is wrong.
        Exception: What a user's module raises on import, unchanged, unless it is an ``ImportError``.
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
    """Let exceptions of the classes that are built inside the block through.

    jsonargparse replaces the exception of a class with a text of its own; this raises the original one.

    Args:
        parser: The parser of the verb.

    Raises:
        UserError: If a class or Lightning rejects its arguments.
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
        isinstance(failure, ValueError | TypeError | ImportError | RuntimeError) and _raised_in(failure, "lightning")
    ):
        raise UserError(one_line(failure)) from failure
    raise failure


def _raised_in(error: BaseException, package: str) -> bool:
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals.get("__name__", "").split(".")[0] == package
