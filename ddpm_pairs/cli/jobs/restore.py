"""``lightning test``, ``validate`` and ``predict`` with a restorer of any network that its weights describe."""

from collections.abc import Callable
from typing import Any

from ddpm_pairs.callbacks import Evaluation
from ddpm_pairs.data import RestorationPairs
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import sha256_of
from ddpm_pairs.reports.restoration import report_restored, report_scores
from ddpm_pairs.restoration.weights import load_restorer
from ddpm_pairs.restoration.writer import RESTORED, RestorationWriter, restored_folder
from ddpm_pairs.run import Run
from ddpm_pairs.shipped import weights_file


def prepare(run: Run) -> Callable[[], None]:
    """Build the network that the weights describe, and check it against the data.

    Raises:
        UserError: If a check fails, before anything is written.
    """
    if run.ckpt_path is None:
        raise UserError(f"--ckpt_path is missing; `{run.verb}` needs the weights of a restorer")
    checkpoint = weights_file(run.ckpt_path)
    run.model.net = load_restorer(checkpoint, run.model.net)
    return {"predict": _restore, "test": _score, "validate": _validate}[run.verb](run, checkpoint)


def _restore(run: Run, checkpoint: str) -> Callable[[], None]:
    if not isinstance(run.data, RestorationPairs) or run.data.lq_dir is None:
        raise UserError("--data.lq_dir is missing; `predict` needs a folder of LQ images to restore")
    run.check()
    writer = RestorationWriter(run.output_dir, _settings(run, checkpoint))
    writer.check(run.data)
    run.trainer.callbacks.append(writer)

    def work() -> None:
        run.trainer.predict(run.model, run.data, ckpt_path=None, return_predictions=False)
        if run.trainer.is_global_zero:
            report_restored(run.output_dir, writer.summary)

    return work


def _score(run: Run, checkpoint: str) -> Callable[[], None]:
    evaluation = _evaluation(run)
    run.check()
    settings = _settings(run, checkpoint) | {"pairs_dir": run.config["data"]["init_args"].get("pairs_dir")}
    folder = restored_folder(run.output_dir)
    folder.check(settings)
    run.model.restored_dir = run.output_dir / RESTORED

    def work() -> None:
        if run.trainer.is_global_zero:
            folder.begin(settings)
        run.trainer.test(run.model, run.data, verbose=False)
        if run.trainer.is_global_zero:
            references = {pair.key: pair.hq for pair in getattr(run.data, "pairs", [])}
            report_scores(run.output_dir, evaluation.result, evaluation.shown, evaluation.failures, references)

    return work


def _validate(run: Run, checkpoint: str) -> Callable[[], None]:
    _evaluation(run)
    run.check()
    return lambda: run.trainer.validate(run.model, run.data)


def _settings(run: Run, checkpoint: str) -> dict[str, Any]:
    """Return the settings that determine the restored images."""
    return {"checkpoint_sha256": sha256_of(checkpoint), "tile": run.model.tile, "overlap": run.model.overlap}


def _evaluation(run: Run) -> Evaluation:
    """Return the callback of the config, or add one with the defaults."""
    found = [one for one in run.trainer.callbacks if isinstance(one, Evaluation)]
    if not found:
        found = [Evaluation()]
        run.trainer.callbacks += found
    return found[0]
