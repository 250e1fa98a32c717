"""Score restored images in validation and test, outside of the module that restores them."""

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
from ddpm_pairs.plain_text import printable
from ddpm_pairs.run import Run

PARTS = ("restored", "hq", "lq", "key")


class Evaluation(L.Callback):
    """Score the images that ``validation_step`` and ``test_step`` of a module return.

    Both must return a dict with ``restored`` and ``hq`` (N, 3, H, W) and ``lq`` (N, 3, h, w), in [0, 1], and ``key``, a
    list of names. Images are first clamped and rounded to 8 bits, as they would be in files. Scores are computed over
    the images of all ranks, each key once, and do not depend on the distribution over ranks.

    In validation, scores are logged as ``val/<score>``. Every ``every_n_steps`` steps, the image ``before_after`` shows
    LQ, restored and HQ side by side, in all loggers that accept images. In test, scores are logged as ``test/<score>``
    and available in ``result``, and every restored image is written to
    ``<Trainer's default_root_dir>/restored/<key>.png``.

    Checkpoints contain neither the networks nor the images of the callback.

    Args:
        metrics: Scores in validation, some of ``fid``, ``kid``, ``lpips``, ``psnr`` and ``ssim``.
        test_metrics: Scores in test.
        features: ``inception``, or ``random`` to try things without weights.
        sheet: Number of images shown before and after restoration.
        every_n_steps: Minimum number of steps between two ``before_after`` images, which are logged in validation.

    Attributes:
        result: The scores of the last test; ``None`` if there was none.
        shown: The images shown for the last validation or test.
        failures: By key, why an image of the last validation or test could not be scored.

    Raises:
        UserError: If a score is unknown, or a number is below 1.
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
                raise UserError(f"Evaluation: got score {name!r}; expected some of {', '.join(METRICS)}")
        for name, value in (("sheet", sheet), ("every_n_steps", every_n_steps)):
            if value < 1:
                raise UserError(f"Evaluation.{name}: got {value}; expected 1 or more")
        self.metrics, self.test_metrics, self.features = tuple(metrics), tuple(test_metrics), features
        self.sheet, self.every_n_steps = sheet, every_n_steps
        self.result: Evaluated | None = None
        self.shown: list[BeforeAfter] = []
        self.failures: dict[str, str] = {}
        self._collector: Collector | None = None
        self._verb = ""
        self._last_step = 0

    def check(self, verb: str = "fit") -> None:
        """Load the networks for the scores of a verb.

        Args:
            verb: ``fit``, ``validate`` or ``test``.

        Raises:
            UserError: If weights are missing; the message names the file, where to put it, and how to do without it.
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
        """Load the networks, unless they are loaded."""
        if stage != "predict":
            self.check(stage)

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Discard the previous validation."""
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
        """Score a batch."""
        self._take(_parts(outputs, pl_module, "validation_step"))

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the scores, and the images if they are due."""
        found = self._end()
        pl_module.log_dict({f"val/{name}": value for name, value in found.values.items()})
        step = trainer.global_step
        due = step - self._last_step >= self.every_n_steps or trainer.state.fn != TrainerFn.FITTING
        if due and not trainer.sanity_checking:
            self._last_step = step
            self._show(trainer)

    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Discard the previous test."""
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
        """Score a batch, and write the restored images."""
        parts = _parts(outputs, pl_module, "test_step")
        self._take(parts)
        for key, restored in zip(parts["key"], parts["restored"], strict=True):
            path = Path(trainer.default_root_dir) / "restored" / f"{key}.png"
            write_atomically(path, encode_png(restored.cpu()), trainer.global_rank)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Store and log the scores."""
        self.result = self._end()
        pl_module.log_dict({f"test/{name}": value for name, value in self.result.values.items()})
        self._show(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return the step at which images were last logged."""
        return {"last_step": self._last_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the step at which images were last logged."""
        self._last_step = state_dict["last_step"]

    def _begin(self, pl_module: L.LightningModule) -> None:
        self._collector.to(pl_module.device).reset()
        self.shown, self.failures = [], {}

    def _take(self, parts: dict[str, Any]) -> None:
        """Score a batch, or record why it cannot be scored."""
        keys, restored, hq = parts["key"], parts["restored"], parts["hq"]
        try:
            self._collector.update(restored, hq, parts["lq"], keys)
        except UserError as error:
            self.failures |= dict.fromkeys(keys, str(error))
            return
        triples = zip(keys, parts["lq"], restored, hq, strict=True)
        self.shown = choose([*self.shown, *(cut_center(*one) for one in triples)], self.sheet)

    def _end(self) -> Evaluated:
        """Compute the scores and gather the shown images and failures of all ranks."""
        found = self._collector.compute()
        self.shown = choose(_of_all_ranks(self.shown), self.sheet)
        self.failures = dict(sorted(_of_all_ranks(list(self.failures.items()))))
        if self.failures:
            key, reason = next(iter(self.failures.items()))
            rank_zero_warn(printable(f"{len(self.failures)} images could not be scored, such as {key}: {reason}"))
        return found

    def _show(self, trainer: L.Trainer) -> None:
        if trainer.is_global_zero and self.shown:
            log_image(trainer, "before_after", grid(self.shown))


def _parts(outputs: Any, pl_module: L.LightningModule, step: str) -> dict[str, Any]:  # noqa: ANN401
    """Check what a step returned, and convert its images to uint8."""
    if not isinstance(outputs, dict) or not set(PARTS) <= outputs.keys():
        raise TypeError(
            f"{type(pl_module).__name__}.{step}: got a return value of type {type(outputs).__name__}; expected "
            f"a dict with {', '.join(PARTS)} for the callback Evaluation"
        )
    return {"key": outputs["key"]} | {name: eight_bit(outputs[name].float()) for name in PARTS[:3]}


def _of_all_ranks(items: Sequence[Any]) -> list[Any]:
    """Gather the items of all ranks, in the order of ranks; all ranks must call it."""
    if not (dist.is_available() and dist.is_initialized()):
        return list(items)
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, list(items))
    return [one for part in parts for one in part]
