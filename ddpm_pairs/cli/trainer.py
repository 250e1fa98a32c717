"""The verbs that run Lightning's Trainer: ``fit``, ``validate``, ``test`` and ``predict``."""

import contextlib
import importlib
import logging
import os
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import jsonargparse
import lightning as L
import yaml
from lightning.pytorch.callbacks import Checkpoint, LearningRateMonitor, WeightAveraging
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.rank_zero import rank_zero_only

import ddpm_pairs.callbacks
import ddpm_pairs.data.degraded
import ddpm_pairs.data.high_quality_crops
import ddpm_pairs.data.low_quality
import ddpm_pairs.data.pairs
import ddpm_pairs.data.unpaired
import ddpm_pairs.restoration
import ddpm_pairs.study
import ddpm_pairs.synthesis  # noqa: F401 - these imports make short class names known to the parser
from ddpm_pairs import trust
from ddpm_pairs.callbacks import LastCheckpoint
from ddpm_pairs.cli.parser import LINKED, ConfigFile, Parser, building, configs_first, one_seed, parse
from ddpm_pairs.cli.plain_errors import one_line
from ddpm_pairs.errors import UserError
from ddpm_pairs.plain_text import printable
from ddpm_pairs.run import Run
from ddpm_pairs.stopping import STOPS, exit_status, stop

USER_ERROR = 2

LONGEST_WAIT = timedelta(days=7)
"""How long a finished rank waits for the others; with Lightning's half hour, slower ranks would be stopped."""

HOOKS = {"fit": "training_step", "validate": "validation_step", "test": "test_step", "predict": "predict_step"}
"""What a module must implement for each verb."""

JOBS = dict.fromkeys(HOOKS, "ddpm_pairs.cli.jobs.generic") | {"fit": "ddpm_pairs.cli.jobs.fit"}
"""The jobs of modules without ``verb_jobs``; see ``ddpm_pairs.run.Run``."""


def run(argv: list[str]) -> int:
    """Run a verb of the Trainer.

    Args:
        argv: Words after the program's name, the verb first.

    Returns:
        The exit status: 0 for success, 2 for a user error (one line on stderr; files written before it are complete),
        130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.
    """
    warnings.filterwarnings("ignore", ".*LeafSpec.*")  # of Lightning's calls into torch; users cannot change it
    try:
        with _quiet_lightning():
            cli = TrainerCLI(argv)
            work = cli.prepare()
        with contextlib.nullcontext() if argv[0] == "fit" else _quiet_lightning():
            return _work(cli, work)
    except UserError as error:
        if os.environ.get("JSONARGPARSE_DEBUG", "").lower() == "true":
            raise
        print(printable(f"ddpm-pairs: error: {one_line(error)}"), file=sys.stderr)
        return USER_ERROR


def _work(cli: "TrainerCLI", work: Callable[[], None]) -> int:
    """Do the work; after an interruption, print the command that resumes."""
    try:
        with interruptions(), finishing(cli.trainer.loggers):
            work()
    except KeyboardInterrupt as error:
        if rank_zero_only.rank == 0:
            print(f"interrupted; to resume, run: {cli.resume_command()}", file=sys.stderr)
        return exit_status(error)
    return 0


@contextlib.contextmanager
def interruptions() -> Iterator[None]:
    """Raise interruptions inside the block as ``KeyboardInterrupt``.

    Lightning turns them into ``SystemExit``; if one comes while the loaders start, its teardown fails.
    """
    try:
        yield
    except (SystemExit, RuntimeError) as error:
        ended = isinstance(error, SystemExit) or "call `iter(combined_loader)` first" in str(error)
        if ended and isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Hide Lightning's messages about devices, seeds and products, but not its warnings."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def finishing(loggers: list[Logger]) -> Iterator[None]:
    """Finish the loggers that need it (W&B), whether the work succeeds or fails."""
    exit_code = 1
    try:
        yield
        exit_code = 0
    finally:
        for logger in loggers:
            if hasattr(logger, "finish"):
                logger.finish(exit_code)


class TrainerCLI(LightningCLI):
    """LightningCLI in subclass mode with our defaults: it parses and builds, and ``prepare`` returns the work.

    Args:
        argv: Words after the program's name, the verb first.
    """

    def __init__(self, argv: list[str]) -> None:
        self.argv = argv
        super().__init__(
            L.LightningModule,
            L.LightningDataModule,
            save_config_callback=None,
            seed_everything_default=0,
            parser_class=Parser,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:  # noqa: ANN401 - Lightning's signature
        """Create a parser with our ``--config``."""
        parser = self.parser_class(prog="ddpm-pairs", **kwargs)
        parser.add_argument(
            "-c",
            "--config",
            action=ConfigFile,
            help="YAML config, your own or a shipped one; if repeated, later ones override earlier ones",
        )
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add our own options, and use one seed for everything."""
        parser.add_argument(
            "--output_dir", type=str | None, default=None, help="output folder (default: runs/<config name>)"
        )
        parser.add_argument(
            "--allow_mixed",
            type=bool,
            default=False,
            help="predict: resume even if the folder contains pairs made with different settings",
        )
        parser.add_argument(
            "--checkpoint_every_n_steps",
            type=int,
            default=1000,
            help="fit: number of steps between two saves of last.ckpt",
        )
        parser.add_argument(trust.OPTION, type=str | None, default=None, help=trust.HELP)
        for part in ("model", "data"):
            parser.link_arguments("seed_everything", f"{part}.init_args.seed", compute_fn=one_seed)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the configs first, so that options on the command line override them regardless of their order.

        Raises:
            UserError: If the command line or a config is wrong.
        """
        verb, *words = self.argv
        for word in words:
            if word.split("=")[0] == "--model.preset":
                raise UserError(
                    "--model.preset is an option of version 0.1; for faces use --config pairs.yaml, else leave it out"
                )
            if word.split("=")[0] in LINKED:
                raise UserError(f"{word} cannot be set; use --seed_everything, which seeds model and data")
        self.config = parse(parser, [verb, *configs_first(words)])
        if names := self.config[verb].get("trust_classes"):
            trust.trust_words(names)

    def _parse_ckpt_path(self) -> None:
        """Do nothing, so that hyperparameters in the checkpoint do not override the command line."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Do nothing; ``prepare`` returns the work."""

    def instantiate_classes(self) -> None:
        """Build data, module and Trainer.

        Raises:
            UserError: If a class or Lightning rejects its arguments.
            Exception: Any other exception of a class, with its own traceback.
        """
        with building(self._parser(self.subcommand)):
            super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:  # noqa: ANN401 - Lightning's signature
        """Create a Trainer that writes to the output folder of the run."""
        given = self._get(self.config_init, "trainer")
        clip = given.get("gradient_clip_val")
        if clip is not None and not clip >= 0:
            raise UserError(f"--trainer.gradient_clip_val: got {clip}; expected 0 or more, or null")
        if given.get("logger") in (None, True):
            kwargs["logger"] = CSVLogger(self.output_dir, name="logs") if self.subcommand == "fit" else False
        callbacks = given.get("callbacks") or []
        callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
        if given.get("logger") is False:  # this callback needs a logger
            callbacks = [one for one in callbacks if not isinstance(one, LearningRateMonitor)]
        if self.subcommand == "fit":
            every = self._get(self.config, "checkpoint_every_n_steps")
            kwargs["callbacks"] = [*callbacks, LastCheckpoint(str(self.output_dir), every)]
        else:  # callbacks for training would warn or raise
            callbacks = [one for one in callbacks if not isinstance(one, (Checkpoint, WeightAveraging))]
            kwargs["callbacks"] = [*callbacks, StopAtOnce()]
        trainer = super().instantiate_trainer(
            default_root_dir=str(self.output_dir), enable_checkpointing=self.subcommand == "fit", **kwargs
        )
        if self.subcommand != "fit" and isinstance(trainer.strategy, DDPStrategy):
            trainer.strategy._timeout = LONGEST_WAIT
        resume = self.subcommand != "fit" or (self.output_dir / "last.ckpt").is_file()
        for logger in trainer.loggers:
            if hasattr(logger, "settle"):  # W&B
                logger.settle(self.output_dir, resume, self.config_dump())
        return trainer

    @property
    def output_dir(self) -> Path:
        """``--output_dir``, or ``runs/<name of the first config>``, since further configs are overlays.

        Without ``--output_dir``, each run of a W&B sweep has its own folder inside.
        """
        given = self._get(self.config, "output_dir")
        if given is not None:
            return Path(given)
        configs = self._get(self.config, "config") or []
        name = Path(str(configs[0])).stem if configs else type(self.model).__name__.lower()
        run_of_sweep = os.environ.get("WANDB_RUN_ID", "") if "WANDB_SWEEP_ID" in os.environ else ""
        return Path("runs") / name / run_of_sweep

    @property
    def ckpt_path(self) -> str | None:
        """``--ckpt_path`` as typed."""
        return self._get(self.config, "ckpt_path")

    def resume_command(self) -> str:
        """Return the command that resumes after an interruption."""
        words = ["lightning", *self.argv]
        if self.subcommand == "fit" and self.ckpt_path != "last":
            words += ["--ckpt_path", "last"]
        return shlex.join(words)

    def prepare(self) -> Callable[[], None]:
        """Check everything before the run, and return the work.

        Raises:
            UserError: If a check fails, before anything is written.
        """
        self._describe_own_classes()
        verb, model, output_dir = self.subcommand, self.model, self.output_dir
        if getattr(type(model), HOOKS[verb]) is getattr(L.LightningModule, HOOKS[verb]):
            raise UserError(
                f"--config describes a {type(model).__name__}, which cannot `{verb}` (it has no {HOOKS[verb]}); "
                "use another --config"
            )
        self._check_folders()
        if output_dir.exists() and not output_dir.is_dir():
            raise UserError(f"--output_dir: got the file {output_dir}; expected a folder or a new name")
        run = Run(
            verb=verb,
            trainer=self.trainer,
            model=model,
            data=self.datamodule,
            output_dir=output_dir,
            ckpt_path=self.ckpt_path,
            config=self.config_dump(),
            allow_mixed=self._get(self.config, "allow_mixed"),
        )
        job = getattr(model, "verb_jobs", {}).get(verb, JOBS[verb])
        return importlib.import_module(job).prepare(run)  # imports only this job and what it needs

    def _check_folders(self) -> None:
        """Refuse empty names, which would be the current folder."""
        arguments = (self._get(self.config, "data") or {}).get("init_args") or jsonargparse.Namespace()
        folders = {f"--data.{name}": value for name, value in vars(arguments).items() if name.endswith("_dir")}
        for option, value in ({"--output_dir": self._get(self.config, "output_dir")} | folders).items():
            if value == "":
                raise UserError(f"{option}: got an empty name; expected a folder")

    def _describe_own_classes(self) -> None:
        """Store the arguments of a user's own network and degradation on them, for checkpoints and ``run.yaml``."""
        arguments = self._get(self.config, "model").get("init_args", {})
        for name in ("net", "degradation"):
            part, spec = getattr(self.model, name, None), arguments.get(name)
            if (
                part is not None
                and hasattr(spec, "get")
                and spec.get("class_path")
                and not hasattr(part, "diffusers_config")
            ):
                with contextlib.suppress(AttributeError):  # of a class with slots, which is described by its attributes
                    object.__setattr__(part, "init_args", spec.get("init_args", jsonargparse.Namespace()).as_dict())

    def config_dump(self) -> dict[str, Any]:
        """Return the resolved config as plain values."""
        parser, config = self._parser(self.subcommand), self.config[self.subcommand]
        text = parser.dump(config, skip_link_targets=False, skip_unset=False, skip_validation=True)  # parsed, so valid
        return yaml.safe_load(text)


class StopAtOnce(L.Callback):
    """Let signals interrupt ``validate``, ``test`` and ``predict`` immediately, as Ctrl-C does.

    Lightning's handler of SIGTERM only sets a flag that these loops do not read, and it starts a collective operation
    in the middle of others.
    """

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Replace Lightning's handlers, which the Trainer has just installed and removes at the end."""
        if threading.current_thread() is not threading.main_thread():
            return

        def stop_all(number: int, frame: FrameType | None) -> None:
            if trainer.strategy.launcher is not None:
                trainer.strategy.launcher.kill(number)  # the ranks that this process has started
            stop(number, frame)

        for number in STOPS[1:]:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as SIGHUP is under nohup
                signal.signal(number, stop_all)

    on_test_start = on_predict_start = on_validation_start
