"""One command of the Trainer's verbs, as the modules, data and callbacks that take part in it see it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L


@dataclass
class Run:
    """One command of the Trainer's verbs: parsed and built, but not begun.

    Whatever takes part in a run may say for itself what must be checked: a LightningModule, the modules inside it, a
    DataModule and a callback may define ``check_run(run: Run) -> None``, which raises ``UserError`` for every reason
    not to begin. None of them need be known to the command line.

    A LightningModule may also define

    * ``verb_jobs``: a dict from a verb to the dotted path of the module that prepares its work, with
      ``prepare(run: Run) -> Callable[[], None]``. Without it, ``fit`` trains, and the other verbs load the weights and
      call the Trainer.
    * ``load_weights(path: str) -> None``: what loads the weights of a checkpoint for these other verbs, in place of
      ``load_state_dict``.

    Attributes:
        verb: ``fit``, ``validate``, ``test`` or ``predict``.
        trainer: The Trainer.
        model: The module.
        data: The DataModule; ``None`` where the module brings its own loaders.
        output_dir: The folder to write.
        ckpt_path: ``--ckpt_path`` as typed; within ``fit``, the file to resume from, or ``None``.
        config: The resolved config, as plain values.
        allow_mixed: ``--allow_mixed``.
    """

    verb: str
    trainer: L.Trainer
    model: L.LightningModule
    data: L.LightningDataModule | None
    output_dir: Path
    ckpt_path: str | None
    config: dict[str, Any]
    allow_mixed: bool = False

    def check(self) -> None:
        """Let everything that takes part check the run: first the data, then the module and its parts, then callbacks.

        Jobs call it when the module is complete, before any work.

        Raises:
            UserError: In one line, for the first reason not to begin.
        """
        for part in self._parts():
            if hasattr(part, "check_run"):
                part.check_run(self)

    def _parts(self) -> Iterator[Any]:
        yield self.data
        yield from self.model.modules()
        yield from self.trainer.callbacks
