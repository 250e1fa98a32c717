"""Scores of restored pictures in validation and test, kept outside of the module that restores them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch.distributed as dist
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from ddpm_pairs.callbacks.periodic import log_image
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import encode_png, write_atomically
from ddpm_pairs.images.before_after import BeforeAfter, choose, cut_center, grid
from ddpm_pairs.images.pixels import eight_bit
from ddpm_pairs.metrics.evaluated import METRICS, Collector, Evaluated
from ddpm_pairs.run import Run

PARTS = ("restored", "hq", "lq", "key")


class Evaluation(L.Callback):
    """Scores what ``validation_step`` and ``test_step`` of a module return.

    They return a dict with ``restored`` and ``hq`` (N, 3, H, W), ``lq`` (N, 3, h, w), in [0, 1], and ``key``, a list
    of names. Pictures are clamped and rounded to 8 bits first, as their files would be. The scores are those of all
    pictures of all ranks, each key once, however they are shared out.

    In validation scores are logged as ``val/<score>``, and every so many steps a picture ``before_after`` with some
    pictures' LQ, restored and HQ beside one another, to all loggers that take pictures. In test scores are logged as
    ``test/<score>`` and stay in ``result``, and every restored picture is written to
    ``<Trainer's default_root_dir>/restored/<key>.png``.

    Networks and pictures are the callback's own; none of them goes into a checkpoint.

    Args:
        metrics: Scores of validation, some of ``fid``, ``kid``, ``lpips``, ``psnr`` and ``ssim``.
        test_metrics: Scores of test.
        features: ``inception``, or ``random`` to try things out without weights.
        sheet: How many pictures are shown before and after.
        every_n_steps: Shown at the first validation after so many further steps.

    Attributes:
        result: The scores of the last test; ``None`` before it.
        shown: The pictures that are shown of the last validation or test, on rank 0.
        failures: By key, why a picture of the last validation or test could not be scored.

    Raises:
        UserError: for an unknown score, or numbers under 1.
    """

    def __init__(
        self,
        metrics: list[str] = ["psnr", "ssim"],  # noqa: B006 - never changed; a config shows it
        test_metrics: list[str] = ["fid", "kid", "lpips", "psnr", "ssim"],  # noqa: B006
        features: Literal["inception", "random"] = "inception",
        sheet: int = 8,
        every_n_steps: int = 1000,
    ) -> None:
        for name in (*metrics, *test_metrics):
            if name not in METRICS:
                raise UserError(f"Evaluation's score {name!r} is unknown: expected some of {', '.join(METRICS)}")
        for name, value in (("sheet", sheet), ("every_n_steps", every_n_steps)):
            if value < 1:
                raise UserError(f"Evaluation's {name} is {value}: expected 1 or more")
        self.metrics, self.test_metrics, self.features = tuple(metrics), tuple(test_metrics), features
        self.sheet, self.every_n_steps = sheet, every_n_steps
        self.result: Evaluated | None = None
        self.shown: list[BeforeAfter] = []
        self.failures: dict[str, str] = {}
        self._collector: Collector | None = None
        self._verb = ""
        self._last_step = 0

    def check(self, verb: str = "fit") -> None:
        """Load the networks that a verb's scores need.

        Args:
            verb: ``fit``, ``validate`` or ``test``.

        Raises:
            UserError: for missing weights; it names the file, where to put it, and how to go without.
        """
        metrics = self.test_metrics if verb == "test" else self.metrics
        if self._verb != verb:
            self._collector = Collector(metrics, self.features, with_inputs=verb == "test")
            self._verb = verb

    def check_run(self, run: Run) -> None:
        """Load the networks before any work; see ``check``."""
        if run.verb != "predict":
            self.check(run.verb)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Load the networks, unless that is done."""
        if stage != "predict":
            self.check(stage)

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget the last validation."""
        self._begin(pl_module)

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take in a batch."""
        self._take(_parts(outputs, pl_module, "validation_step"))

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the scores, and the pictures if it is time."""
        found = self._end()
        pl_module.log_dict({f"val/{name}": value for name, value in found.values.items()})
        step = trainer.global_step
        due = step - self._last_step >= self.every_n_steps or trainer.state.fn != TrainerFn.FITTING
        if due and not trainer.sanity_checking:
            self._last_step = step
            self._show(trainer)

    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget the last test."""
        self._begin(pl_module)

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take in a batch, and write what was restored."""
        parts = _parts(outputs, pl_module, "test_step")
        self._take(parts)
        for key, restored in zip(parts["key"], parts["restored"], strict=True):
            path = Path(trainer.default_root_dir) / "restored" / f"{key}.png"
            write_atomically(path, encode_png(restored.cpu()), trainer.global_rank)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep and log the scores."""
        self.result = self._end()
        pl_module.log_dict({f"test/{name}": value for name, value in self.result.values.items()})
        self._show(trainer)

    def state_dict(self) -> dict[str, Any]:
        """When pictures were shown last."""
        return {"last_step": self._last_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting from there."""
        self._last_step = state_dict["last_step"]

    def _begin(self, pl_module: L.LightningModule) -> None:
        self._collector.to(pl_module.device).reset()
        self.shown, self.failures = [], {}

    def _take(self, parts: dict[str, Any]) -> None:
        """Score a batch, or note why it cannot be."""
        keys, restored, hq = parts["key"], parts["restored"], parts["hq"]
        try:
            self._collector.update(restored, hq, parts["lq"], keys)
        except UserError as error:
            self.failures |= dict.fromkeys(keys, str(error))
            return
        triples = zip(keys, parts["lq"], restored, hq, strict=True)
        self.shown = choose([*self.shown, *(cut_center(*one) for one in triples)], self.sheet)

    def _end(self) -> Evaluated:
        """What all ranks found."""
        found = self._collector.compute()
        self.shown = choose(_of_all_ranks(self.shown), self.sheet)
        self.failures = dict(sorted(_of_all_ranks(list(self.failures.items()))))
        if self.failures:
            key, reason = next(iter(self.failures.items()))
            rank_zero_warn(f"{len(self.failures)} pictures could not be scored, such as {key}: {reason}")
        return found

    def _show(self, trainer: L.Trainer) -> None:
        if trainer.is_global_zero and self.shown:
            log_image(trainer, "before_after", grid(self.shown))


def _parts(outputs: Any, pl_module: L.LightningModule, step: str) -> dict[str, Any]:  # noqa: ANN401
    """What a step returned, its pictures as uint8."""
    if not isinstance(outputs, dict) or not set(PARTS) <= outputs.keys():
        raise TypeError(
            f"{type(pl_module).__name__}.{step} returned {type(outputs).__name__}: the callback Evaluation expects a "
            f"dict with {', '.join(PARTS)}"
        )
    return {"key": outputs["key"]} | {name: eight_bit(outputs[name].float()) for name in PARTS[:3]}


def _of_all_ranks(items: Sequence[Any]) -> list[Any]:
    """The items of all ranks, rank by rank; all ranks must call it."""
    if not (dist.is_available() and dist.is_initialized()):
        return list(items)
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, list(items))
    return [one for part in parts for one in part]
