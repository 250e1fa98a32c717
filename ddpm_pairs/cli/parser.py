"""How a command line of the Trainer's verbs is parsed: configs, options and their errors."""

from argparse import ArgumentError
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ActionConfigFile
from lightning.pytorch.cli import LightningArgumentParser

from ddpm_pairs.errors import UserError
from ddpm_pairs.shipped import config_names, shipped_config

# Overwritten by the one seed without a word, so refused where they are typed.
LINKED = ("--model.seed", "--model.init_args.seed", "--data.seed", "--data.init_args.seed")


class Parser(LightningArgumentParser):
    """A parser whose errors end in one line, made by ``run``."""

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
        try:
            super().__call__(parser, namespace, values, option_string)
        except Exception as error:
            error.add_note(f"(in --config {values})")
            raise


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
        UserError: for ``true``, by which Lightning draws a seed that nobody else learns of.
    """
    if value is True:
        raise UserError("--seed_everything is true: expected a number, from which everything random follows")
    return int(value)
