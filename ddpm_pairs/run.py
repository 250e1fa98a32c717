"""A command with a Trainer verb, as its modules, data, and callbacks see it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L


@dataclass
class Run:
    """A command with a Trainer verb: parsed and instantiated, but not started.

    Everything that takes part in a run can check it: a LightningModule, its submodules, a DataModule, and a callback
    may define ``check_run(run: Run) -> None``, which raises ``UserError`` for every reason not to start. The command
    line needs no list of them.

    A LightningModule may also define

    * ``verb_jobs``: A dict from a verb to the dotted path of the module that prepares its work, with
      ``prepare(run: Run) -> Callable[[], None]``. Without it, ``fit`` trains, and the other verbs load the weights and
      call the Trainer.
    * ``load_weights(path: str) -> None``: Loads the weights of a checkpoint for these other verbs, instead of
      ``load_state_dict``.

    Attributes:
        verb: ``fit``, ``validate``, ``test``, or ``predict``.
        trainer: The Trainer.
        model: The module.
        data: The DataModule; ``None`` if the module has its own loaders.
        output_dir: The output folder.
        ckpt_path: ``--ckpt_path`` as typed; for ``fit``, the file to resume from, or ``None``.
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
        """Call ``check_run`` of all that define it: the data, then the module and its submodules, then the callbacks.

        Jobs call this when the module is complete, before any work starts.

        Raises:
            UserError: For the first reason not to start, in one line.
        """
        for part in self._parts():
            if hasattr(part, "check_run"):
                part.check_run(self)

    def _parts(self) -> Iterator[Any]:
        yield self.data
        yield from self.model.modules()
        yield from self.trainer.callbacks
