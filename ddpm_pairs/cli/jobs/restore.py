"""``lightning test``, ``validate`` and ``predict`` with a restorer, whatever network its weights describe."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ddpm_pairs.callbacks import Evaluation
from ddpm_pairs.data import RestorationPairs
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import sha256_of
from ddpm_pairs.reports.restoration import report_restored, report_scores
from ddpm_pairs.restoration.loading import load_restorer
from ddpm_pairs.restoration.writer import RESTORED, RestorationWriter, restored_folder
from ddpm_pairs.shipped import weights_file

if TYPE_CHECKING:
    from ddpm_pairs.cli.trainer import TrainerCLI


def prepare(cli: "TrainerCLI") -> Callable[[], None]:
    """Build the network that the weights describe, and check it against the data.

    Raises:
        UserError: in one line, before anything is written.
    """
    if cli.ckpt_path is None:
        raise UserError(f"no checkpoint was given: `{cli.subcommand}` expects --ckpt_path with a restorer's weights")
    checkpoint = weights_file(cli.ckpt_path)
    cli.model.net = load_restorer(checkpoint, cli.model.net)
    return {"predict": _restore, "test": _score, "validate": _validate}[cli.subcommand](cli, checkpoint)


def _restore(cli: "TrainerCLI", checkpoint: str) -> Callable[[], None]:
    data = cli.datamodule
    if not isinstance(data, RestorationPairs) or data.lq_dir is None:
        raise UserError("nothing to restore was given: expected --data.lq_dir with a folder of LQ pictures")
    writer = RestorationWriter(cli.output_dir, _settings(cli, checkpoint))
    writer.check(data)
    cli.trainer.callbacks.append(writer)

    def work() -> None:
        cli.trainer.predict(cli.model, data, ckpt_path=None, return_predictions=False)
        if cli.trainer.is_global_zero:
            report_restored(cli.output_dir, writer.summary)

    return work


def _score(cli: "TrainerCLI", checkpoint: str) -> Callable[[], None]:
    cli.model.check(cli.datamodule.scale)
    evaluation = _evaluation(cli)
    settings = _settings(cli, checkpoint) | {"pairs_dir": cli.config_dump()["data"]["init_args"].get("pairs_dir")}
    folder = restored_folder(cli.output_dir)
    folder.check(settings)
    cli.model.restored_dir = cli.output_dir / RESTORED

    def work() -> None:
        if cli.trainer.is_global_zero:
            folder.begin(settings)
        cli.trainer.test(cli.model, cli.datamodule, verbose=False)
        if cli.trainer.is_global_zero:
            references = {pair.key: pair.hq for pair in getattr(cli.datamodule, "pairs", [])}
            report_scores(cli.output_dir, evaluation.result, evaluation.shown, evaluation.failures, references)

    return work


def _validate(cli: "TrainerCLI", checkpoint: str) -> Callable[[], None]:
    cli.model.check(cli.datamodule.scale)
    _evaluation(cli)
    return lambda: cli.trainer.validate(cli.model, cli.datamodule)


def _settings(cli: "TrainerCLI", checkpoint: str) -> dict[str, Any]:
    """What decides how restored pictures look."""
    return {"checkpoint_sha256": sha256_of(checkpoint), "tile": cli.model.tile, "overlap": cli.model.overlap}


def _evaluation(cli: "TrainerCLI") -> Evaluation:
    """The config's callback, or one with its defaults."""
    found = [one for one in cli.trainer.callbacks if isinstance(one, Evaluation)]
    evaluation = found[0] if found else Evaluation()
    if not found:
        cli.trainer.callbacks.append(evaluation)
    evaluation.check(cli.subcommand)
    return evaluation
