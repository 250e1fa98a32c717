"""The verbs that run Lightning's Trainer: ``fit``, ``validate``, ``test`` and ``predict``."""

import contextlib
import json
import logging
import os
import shlex
import sys
from argparse import ArgumentError
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonargparse
import lightning as L
import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Checkpoint, LearningRateMonitor, WeightAveraging
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

import ddpm_pairs.callbacks
import ddpm_pairs.data.degraded
import ddpm_pairs.data.low_quality  # noqa: F401 - like the lines above, makes short class names known to the parser
from ddpm_pairs.callbacks import LastCheckpoint
from ddpm_pairs.command_line import LINKED, ConfigFile, Parser, configs_first, one_seed
from ddpm_pairs.data import HighQualityImages
from ddpm_pairs.data.base import PictureDataModule
from ddpm_pairs.data.unpaired import UnpairedImages
from ddpm_pairs.diffusion import DDPM, load_denoiser
from ddpm_pairs.diffusion.loading import first_difference
from ddpm_pairs.pairs.generator import PairGenerator
from ddpm_pairs.pairs.run_record import checkpoint_sha256
from ddpm_pairs.pairs.writer import PairWriter
from ddpm_pairs.plain_errors import plain_error
from ddpm_pairs.reports.wandb_run import WandbRun, finished
from ddpm_pairs.shipped import weights_file

USER_ERROR, INTERRUPTED = 2, 130


def run(argv: list[str]) -> int:
    """Run a verb of the Trainer.

    Args:
        argv: The words after the program's name, the verb first.

    Returns:
        The exit status: 0, 2 for a user error (one line on stderr, before any work), 130 after Ctrl-C.
    """
    try:
        with _quiet_lightning():
            cli = TrainerCLI(argv)
            work = cli.prepare()
    except (ValueError, TypeError, ArgumentError, MisconfigurationException) as error:
        if os.environ.get("JSONARGPARSE_DEBUG", "").lower() == "true":
            raise
        print(f"ddpm-pairs: error: {plain_error(error, argv[0])}", file=sys.stderr)
        return USER_ERROR
    try:
        with contextlib.nullcontext() if argv[0] == "fit" else _quiet_lightning(), finished(cli.trainer.loggers):
            work()
    except (SystemExit, KeyboardInterrupt) as error:
        if isinstance(error, SystemExit) and not isinstance(error.__context__, KeyboardInterrupt):
            raise  # Lightning turns Ctrl-C into SystemExit; this one is another
        if rank_zero_only.rank == 0:
            print(f"interrupted; to go on type: {cli.resume_command()}", file=sys.stderr)
        return INTERRUPTED
    return 0


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Leave out what Lightning tells of itself (devices, seeds, products); its warnings stay."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class TrainerCLI(LightningCLI):
    """LightningCLI in subclass mode with our defaults; it parses and builds, and ``prepare`` says what is to be run.

    Args:
        argv: The words after the program's name, the verb first.
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
        """A parser with our ``--config``."""
        parser = self.parser_class(prog="ddpm-pairs", **kwargs)
        parser.add_argument(
            "-c", "--config", action=ConfigFile, help="YAML config, of your own or shipped; may be repeated"
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
            parser.link_arguments("seed_everything", f"{part}.init_args.seed", compute_fn=one_seed)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse with the configs first, so that what is typed counts wherever ``--config`` stands."""
        verb, *words = self.argv
        for word in words:
            if word.split("=")[0] in LINKED:
                raise ValueError(f"{word} cannot be given: --seed_everything seeds model and data")
        self.config = parser.parse_args([verb, *configs_first(words)])

    def _parse_ckpt_path(self) -> None:
        """Keep Lightning from reading hyperparameters out of the checkpoint over what was typed."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Leave the running to ``prepare``."""

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:  # noqa: ANN401 - Lightning's signature
        """A Trainer that writes below the run's own folder."""
        if self._get(self.config_init, "trainer").get("logger") in (None, True):
            kwargs["logger"] = CSVLogger(self.output_dir, name="logs") if self.subcommand == "fit" else False
        callbacks = self._get(self.config_init, "trainer").get("callbacks") or []
        if self._get(self.config_init, "trainer").get("logger") is False:  # which this one refuses
            callbacks = [one for one in callbacks if not isinstance(one, LearningRateMonitor)]
        if self.subcommand == "fit":
            every = self._get(self.config, "checkpoint_every_n_steps")
            kwargs["callbacks"] = [*callbacks, LastCheckpoint(str(self.output_dir), every)]
        else:  # what only serves training would warn or refuse
            kwargs["callbacks"] = [one for one in callbacks if not isinstance(one, (Checkpoint, WeightAveraging))]
        trainer = super().instantiate_trainer(
            default_root_dir=str(self.output_dir), enable_checkpointing=self.subcommand == "fit", **kwargs
        )
        go_on = self.subcommand != "fit" or (self.output_dir / "last.ckpt").is_file()
        for logger in trainer.loggers:
            if isinstance(logger, WandbRun):
                logger.settle(self.output_dir, go_on, self._config_dump())
        return trainer

    @property
    def output_dir(self) -> Path:
        """``--output_dir``, or ``runs/<name of the first config>``; further ones are overlays.

        There, the runs of a W&B sweep get a folder each.
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
        """What to type to go on after an interruption."""
        words = ["lightning", *self.argv]
        if self.subcommand == "fit" and self.ckpt_path != "last":
            words += ["--ckpt_path", "last"]
        return shlex.join(words)

    def prepare(self) -> Callable[[], None]:
        """Find every reason not to begin, and return the work.

        Raises:
            ValueError: in one line, before anything is written.
        """
        self._describe_own_classes()
        hook = {"fit": "training_step", "validate": "validation_step", "test": "test_step", "predict": "predict_step"}
        if getattr(type(self.model), hook[self.subcommand]) is getattr(L.LightningModule, hook[self.subcommand]):
            raise ValueError(f"{type(self.model).__name__} cannot `{self.subcommand}`: expected another --config")
        if self.output_dir.exists() and not self.output_dir.is_dir():
            raise ValueError(f"--output_dir {self.output_dir} is a file: expected a folder or a new name")
        if isinstance(self.datamodule, PictureDataModule):
            self.datamodule.trainer = self.trainer  # by which it knows the number of ranks
            self.datamodule.setup(self.subcommand)
        if self.subcommand == "fit":
            return self._prepare_fit()
        if self.subcommand == "predict" and isinstance(self.model, PairGenerator):
            return self._prepare_pairs()
        if self.subcommand == "test" and isinstance(self.datamodule, UnpairedImages):
            return self._prepare_study(self.datamodule)
        return self._prepare_loaded()

    def _prepare_fit(self) -> Callable[[], None]:
        last = self.output_dir / "last.ckpt"
        resume = self.ckpt_path
        if resume == "last":
            resume = str(last) if last.is_file() else None
        elif last.is_file() and (resume is None or Path(resume).resolve().parent != last.resolve().parent):
            raise ValueError(
                f"a run lies in {self.output_dir} already: go on with --ckpt_path last, or give another --output_dir"
            )
        if resume is not None:
            if not Path(resume).is_file() or Path(resume).suffix != ".ckpt":
                raise ValueError(
                    f"--ckpt_path {resume} cannot be resumed: expected a .ckpt of an earlier fit "
                    "(weights alone are taken by --model.init_from)"
                )
            if isinstance(self.model, DDPM):
                _check_agreement(self.model.denoiser().spec(), resume, load_denoiser(resume).spec())

        def work() -> None:
            self._save_config("config.yaml")
            try:
                self.trainer.fit(self.model, self.datamodule, ckpt_path=resume, weights_only=True)
            finally:
                self._report_failures()

        return work

    def _prepare_pairs(self) -> Callable[[], None]:
        if not isinstance(self.datamodule, HighQualityImages):
            raise ValueError(f"pairs are made from HighQualityImages, --data is {type(self.datamodule).__name__}")
        checkpoint = None if self.ckpt_path is None else weights_file(self.ckpt_path)
        if checkpoint is not None and self.model.t_max > 0:
            self.model.denoiser = load_denoiser(checkpoint)
        used = None if self.model.denoiser is None else checkpoint
        writer = PairWriter(str(self.output_dir), used, self._get(self.config, "allow_mixed"), self._config_dump())
        device = self.trainer.strategy.root_device
        writer.check(self.model, self.datamodule, device.type)
        self.model.prepare(device)
        self.trainer.callbacks.append(writer)

        def work() -> None:
            self.trainer.predict(self.model, self.datamodule, ckpt_path=None, return_predictions=False)
            if self.trainer.is_global_zero:
                from ddpm_pairs.reports.pairs import report_pairs
                from ddpm_pairs.reports.wandb_log import log_pairs

                report_pairs(self.output_dir, writer.summary)
                log_pairs(self.trainer.loggers, self.output_dir, writer.summary)

        return work

    def _prepare_study(self, data: UnpairedImages) -> Callable[[], None]:
        from ddpm_pairs.reports.t_study import TStudy
        from ddpm_pairs.reports.wandb_log import log_study

        if not isinstance(self.model, TStudy):
            raise ValueError(f"UnpairedImages are for the t study, --model is {type(self.model).__name__}")
        if self.ckpt_path is None:
            raise ValueError("no checkpoint was given: expected --ckpt_path with a trained DDPM")
        checkpoint = weights_file(self.ckpt_path)
        device = self.trainer.strategy.root_device
        self.model.prepare(load_denoiser(checkpoint), checkpoint_sha256(checkpoint), data, self.output_dir, device)

        def work() -> None:
            self.trainer.test(self.model, self.datamodule, verbose=False)
            if self.trainer.is_global_zero:
                chosen = self.model.report(self.ckpt_path)
                log_study(self.trainer.loggers, self.output_dir, chosen)

        return work

    def _prepare_loaded(self) -> Callable[[], None]:
        """Weights loaded by ourselves, as everywhere outside of resuming."""
        if self.ckpt_path is None:
            raise ValueError(f"no checkpoint was given: `{self.subcommand}` expects --ckpt_path")
        checkpoint = weights_file(self.ckpt_path)
        if isinstance(self.model, DDPM):
            loaded = load_denoiser(checkpoint)
            asked = self.model.denoiser().spec()
            del asked["t_max"]  # a loss over other t than those of the training is still a loss
            _check_agreement(asked, checkpoint, loaded.spec())
            self.model.net.load_state_dict(loaded.net.state_dict())
        else:
            _load_weights(self.model, checkpoint)

        def work() -> None:
            options = {"return_predictions": False} if self.subcommand == "predict" else {}
            getattr(self.trainer, self.subcommand)(self.model, datamodule=self.datamodule, **options)

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
                part.init_args = spec.get("init_args", jsonargparse.Namespace()).as_dict()

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


def _check_agreement(asked: dict[str, Any], path: str, found: dict[str, Any]) -> None:
    """Refuse a checkpoint whose network, schedule or objective is not the config's.

    Raises:
        ValueError: naming the first difference.
    """
    if different := first_difference(asked, found):
        name, wanted, held = different
        raise ValueError(f"checkpoint {path} has {name} {held}, the config {wanted}: give the same config")


def _load_weights(module: L.LightningModule, path: str) -> None:
    """Fill a module from a Lightning checkpoint.

    Raises:
        ValueError: if the file is none, or of another module.
    """
    try:
        module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
    except Exception as error:  # torch raises many kinds for a file that is no checkpoint
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"checkpoint {path} does not fit {type(module).__name__} ({reason}): give one that `lightning fit` wrote"
        ) from None
