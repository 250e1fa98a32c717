"""The verbs that run Lightning's Trainer: ``fit``, ``validate``, ``test`` and ``predict``."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import jsonargparse
import lightning as L
import yaml
from jsonargparse import ActionConfigFile
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

import ddpm_pairs.callbacks  # noqa: F401 - makes the short class names known to the parser
from ddpm_pairs.callbacks import LastCheckpoint
from ddpm_pairs.data import HighQualityImages
from ddpm_pairs.data.base import PictureDataModule
from ddpm_pairs.diffusion import DDPM, load_denoiser
from ddpm_pairs.pairs.generator import PairGenerator
from ddpm_pairs.pairs.writer import PairWriter
from ddpm_pairs.shipped import config_names, shipped_config, weights_file

USER_ERROR, INTERRUPTED = 2, 130


def run(argv: list[str]) -> int:
    """Run a verb of the Trainer.

    Args:
        argv: The words after the program's name, the verb first.

    Returns:
        The exit status: 0, 2 for a user error (one line on stderr, before any work), 130 after Ctrl-C.
    """
    try:
        cli = TrainerCLI(argv)
        work = cli.prepare()
    except (ValueError, TypeError, MisconfigurationException) as error:
        if os.environ.get("JSONARGPARSE_DEBUG"):
            raise
        print(f"ddpm-pairs: error: {' '.join(str(error).split())}", file=sys.stderr)
        return USER_ERROR
    try:
        work()
    except (SystemExit, KeyboardInterrupt):  # Lightning turns Ctrl-C into exit status 1
        if rank_zero_only.rank == 0:
            print(f"interrupted; to go on type: {cli.resume_command()}", file=sys.stderr)
        return INTERRUPTED
    return 0


class _Parser(LightningArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if os.environ.get("JSONARGPARSE_DEBUG") and ex is not None:
            raise ex
        lines = [line.strip() for line in str(message).splitlines() if line.strip()]
        print(f"ddpm-pairs: error: {_plain(lines)}", file=sys.stderr)
        raise SystemExit(USER_ERROR)


class _Config(ActionConfigFile):
    """``--config``, looked up in the working directory, then among the shipped configs."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:  # noqa: ANN401
        if isinstance(values, str) and values.endswith((".yaml", ".yml")) and not Path(values).is_file():
            found = shipped_config(values)
            if found is None:
                parser.error(
                    f"config {values} does not exist: expected a file, or a shipped one ({', '.join(config_names())})"
                )
            values = str(found)
        super().__call__(parser, namespace, values, option_string)


class TrainerCLI(LightningCLI):
    """LightningCLI in subclass mode with our defaults; it parses and builds, and ``prepare`` says what is to be run.

    Args:
        argv: The words after the program's name, the verb first.
    """

    def __init__(self, argv: list[str]) -> None:
        self.argv = argv
        super().__init__(
            L.LightningModule,
            PictureDataModule,
            save_config_callback=None,
            seed_everything_default=0,
            parser_class=_Parser,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:  # noqa: ANN401 - Lightning's signature
        """A parser with our ``--config``."""
        parser = self.parser_class(prog="ddpm-pairs", **kwargs)
        parser.add_argument(
            "-c", "--config", action=_Config, help="YAML config, of your own or shipped; may be repeated"
        )
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Our own options, and one seed for everything."""
        parser.add_argument(
            "--output_dir", type=str | None, default=None, help="folder to write (default: runs/<config name>)"
        )
        parser.add_argument(
            "--allow_mixed",
            type=bool,
            default=False,
            help="predict: go on with pairs that were made with other settings",
        )
        parser.add_argument(
            "--checkpoint_every_n_steps", type=int, default=1000, help="fit: save last.ckpt every so many steps"
        )
        for part in ("model", "data"):
            parser.link_arguments("seed_everything", f"{part}.init_args.seed", compute_fn=int)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse with the configs first, so that what is typed counts wherever ``--config`` stands."""
        verb, *words = self.argv
        self.config = parser.parse_args([verb, *configs_first(words)])

    def _parse_ckpt_path(self) -> None:
        """Keep Lightning from reading hyperparameters out of the checkpoint over what was typed."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Leave the running to ``prepare``."""

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:  # noqa: ANN401 - Lightning's signature
        """A Trainer that writes below the run's own folder."""
        if self._get(self.config_init, "trainer").get("logger") in (None, True):
            kwargs["logger"] = CSVLogger(self.output_dir, name="logs") if self.subcommand == "fit" else False
        if self.subcommand == "fit":
            every = self._get(self.config, "checkpoint_every_n_steps")
            self.trainer_defaults = {"callbacks": [LastCheckpoint(str(self.output_dir), every)]}
        return super().instantiate_trainer(
            default_root_dir=str(self.output_dir), enable_checkpointing=self._checkpoints, **kwargs
        )

    @property
    def _checkpoints(self) -> bool:
        return self.subcommand == "fit"

    @property
    def output_dir(self) -> Path:
        """``--output_dir``, or ``runs/<name of the last config>``."""
        given = self._get(self.config, "output_dir")
        if given is not None:
            return Path(given)
        configs = self._get(self.config, "config") or []
        name = Path(str(configs[-1])).stem if configs else type(self.model).__name__.lower()
        return Path("runs") / name

    @property
    def ckpt_path(self) -> str | None:
        """``--ckpt_path`` as typed."""
        return self._get(self.config, "ckpt_path")

    def resume_command(self) -> str:
        """What to type to go on after an interruption."""
        words = ["lightning", *self.argv]
        if self.subcommand == "fit" and self.ckpt_path != "last":
            words += ["--ckpt_path", "last"]
        return " ".join(words)

    def prepare(self) -> Callable[[], None]:
        """Find every reason not to begin, and return the work.

        Raises:
            ValueError: in one line, before anything is written.
        """
        self._describe_own_classes()
        if hasattr(self.datamodule, "find"):
            self.datamodule.find()
        hook = {"fit": "training_step", "validate": "validation_step", "test": "test_step", "predict": "predict_step"}
        if getattr(type(self.model), hook[self.subcommand]) is getattr(L.LightningModule, hook[self.subcommand]):
            raise ValueError(f"{type(self.model).__name__} cannot `{self.subcommand}`: expected another --config")
        if self.output_dir.exists() and not self.output_dir.is_dir():
            raise ValueError(f"--output_dir {self.output_dir} is a file: expected a folder or a new name")
        if self.subcommand == "fit":
            return self._prepare_fit()
        if self.subcommand == "predict" and isinstance(self.model, PairGenerator):
            return self._prepare_pairs()
        return self._prepare_loaded()

    def _prepare_fit(self) -> Callable[[], None]:
        last = self.output_dir / "last.ckpt"
        resume = self.ckpt_path
        if resume == "last":
            resume = str(last) if last.is_file() else None
        elif resume is None and last.is_file():
            raise ValueError(
                f"a run lies in {self.output_dir} already: go on with --ckpt_path last, or give another --output_dir"
            )
        if resume is not None:
            if Path(resume).suffix != ".ckpt":
                raise ValueError(
                    f"--ckpt_path {resume} cannot be resumed: expected a .ckpt of an earlier fit "
                    "(weights alone are taken by --model.init_from)"
                )
            self._check_resume(resume)

        def work() -> None:
            self._save_config("config.yaml")
            try:
                self.trainer.fit(self.model, self.datamodule, ckpt_path=resume, weights_only=True)
            finally:
                self._report_failures()

        return work

    def _check_resume(self, path: str) -> None:
        if not isinstance(self.model, DDPM):
            return
        asked, found = self.model.denoiser().spec(), load_denoiser(path).spec()
        for name, value in asked.items():
            if value != found[name]:
                raise ValueError(
                    f"checkpoint {path} has {name} {found[name]}, the config {value}: resume with the same config"
                )

    def _prepare_pairs(self) -> Callable[[], None]:
        checkpoint = None if self.ckpt_path is None else weights_file(self.ckpt_path)
        if checkpoint is not None and self.model.t_max > 0:
            self.model.denoiser = load_denoiser(checkpoint)
        self.model.check()
        if not isinstance(self.datamodule, HighQualityImages):
            raise ValueError(f"pairs are made from HighQualityImages, --data is {type(self.datamodule).__name__}")
        used = None if self.model.denoiser is None else checkpoint
        writer = PairWriter(str(self.output_dir), used, self._get(self.config, "allow_mixed"), self._config_dump())
        writer.check(self.model, self.datamodule, self.trainer.strategy.root_device.type)
        self.trainer.callbacks.append(writer)

        def work() -> None:
            self.trainer.predict(self.model, self.datamodule, ckpt_path=None, return_predictions=False)
            if self.trainer.is_global_zero:
                from ddpm_pairs.reports.pairs import report_pairs

                report_pairs(self.output_dir, writer.summary)

        return work

    def _prepare_loaded(self) -> Callable[[], None]:
        """``validate`` and ``test`` of a DDPM: weights loaded by ourselves, as everywhere outside of resuming."""
        if self.ckpt_path is None:
            raise ValueError(f"no checkpoint was given: `{self.subcommand}` expects --ckpt_path")
        checkpoint = weights_file(self.ckpt_path)
        if isinstance(self.model, DDPM):
            loaded = load_denoiser(checkpoint)
            asked, found = self.model.denoiser().spec(), loaded.spec()
            for name in ("net", "schedule", "num_train_timesteps", "prediction_type"):
                if asked[name] != found[name]:
                    raise ValueError(f"checkpoint {checkpoint} has {name} {found[name]}, the config {asked[name]}")
            self.model.net.load_state_dict(loaded.net.state_dict())

        def work() -> None:
            getattr(self.trainer, self.subcommand)(self.model, datamodule=self.datamodule)

        return work

    def _describe_own_classes(self) -> None:
        """Let a user's own network and degradation remember their arguments, for checkpoints and ``run.yaml``."""
        arguments = self._get(self.config, "model").get("init_args", {})
        for name in ("net", "degradation"):
            part, spec = getattr(self.model, name, None), arguments.get(name)
            if (
                part is not None
                and hasattr(spec, "get")
                and spec.get("class_path")
                and not hasattr(part, "diffusers_config")
            ):
                part.init_args = jsonargparse.namespace_to_dict(spec.get("init_args") or jsonargparse.Namespace())

    def _config_dump(self) -> dict[str, Any]:
        text = self._parser(self.subcommand).dump(
            self.config[self.subcommand], skip_link_targets=False, skip_none=False
        )
        return yaml.safe_load(text)

    @rank_zero_only
    def _save_config(self, name: str) -> None:
        self.output_dir.mkdir(parents=True, exist_ok=True)
        (self.output_dir / name).write_text(yaml.safe_dump(self._config_dump(), sort_keys=False, allow_unicode=True))

    @rank_zero_only
    def _report_failures(self) -> None:
        """List the pictures that were left out of training."""
        failures = getattr(self.datamodule, "failures", [])
        if not failures:
            return
        path = self.output_dir / "failures.jsonl"
        lines = [json.dumps({"source": one.source, "reason": one.reason}, ensure_ascii=False) for one in failures]
        path.write_text("".join(f"{line}\n" for line in lines))
        print(f"{len(failures)} pictures were left out, listed in {path}:", file=sys.stderr)
        for failure in failures[:10]:
            print(f"  {failure.source}: {failure.reason}", file=sys.stderr)


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


def _plain(lines: list[str]) -> str:
    """One sentence out of jsonargparse's paragraphs."""
    return " ".join(lines)
