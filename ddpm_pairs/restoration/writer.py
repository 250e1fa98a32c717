"""The callback that writes restored pictures as they are made, and goes on where an earlier run ended."""

import json
import time
from pathlib import Path
from typing import Any

import lightning as L
import yaml

from ddpm_pairs.data.pairs import RestorationPairs
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import encode_png, write_atomically
from ddpm_pairs.images.find import Failure
from ddpm_pairs.restoration.restorer import Restored, Restorer

RUN_FILE, FAILURES, RESTORED = "run.yaml", "failures.jsonl", "restored"


class RestorationWriter(L.Callback):
    """Writes ``<output_dir>/restored/<key>.png``; use it with a ``Restorer`` and the LQ of ``RestorationPairs``.

    Args:
        output_dir: Where to; pictures that lie there already are not restored again.
        settings: What decides how restored pictures look: the SHA-256 of the weights and the tiles. A folder made
            with others is refused.

    Attributes:
        summary: After the run, on rank 0: ``made`` (pictures of this run), ``seconds`` and ``failures``.
    """

    def __init__(self, output_dir: str | Path, settings: dict[str, Any]) -> None:
        self.root, self.settings = Path(output_dir), settings
        self.summary: dict[str, Any] = {}

    def check(self, data: RestorationPairs) -> None:
        """Find every reason not to begin, and tell the loader what is not done yet.

        Raises:
            UserError: for a folder with pictures restored otherwise.
        """
        check_settings(self.root, self.settings)
        if Path(data.lq_dir).resolve() in (self.root.resolve(), (self.root / RESTORED).resolve()):
            raise UserError(f"--output_dir {self.root} is where the LQ pictures lie: give another folder")
        self.todo = [one for one in data.pictures if not self._path(one.key).is_file()]
        data.schedule([[one] for one in self.todo])

    def setup(self, trainer: L.Trainer, pl_module: Restorer, stage: str) -> None:
        """Write down the settings."""
        self.begin, self.rank = time.monotonic(), trainer.global_rank
        if trainer.is_global_zero:
            write_settings(self.root, self.settings)
        trainer.strategy.barrier("settings written")

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: Restorer,
        outputs: tuple[list[Restored], list[Failure]],
        batch: Any,  # noqa: ANN401 - Lightning's signature
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Publish the pictures of a batch."""
        restored, failures = outputs
        for one in restored:
            write_atomically(self._path(one.key), encode_png(one.pixels), self.rank)
        if failures:
            with (self.root / f"failures.rank{self.rank}.jsonl").open("a", encoding="utf-8") as file:
                file.writelines(_line(one) for one in failures)

    def teardown(self, trainer: L.Trainer, pl_module: Restorer, stage: str) -> None:
        """Join what the ranks report; not called after an interruption."""
        trainer.strategy.barrier("pictures restored")
        seconds = time.monotonic() - self.begin
        if not trainer.is_global_zero:
            return
        found = {one.source: one for one in trainer.datamodule.failures}
        for path in sorted(self.root.glob("failures.rank*.jsonl")):
            for text in path.read_text(encoding="utf-8").splitlines():
                line = json.loads(text)
                found[line["source"]] = Failure(line["source"], line["reason"])
            path.unlink()
        failures = [found[source] for source in sorted(found)]
        write_atomically(self.root / FAILURES, "".join(map(_line, failures)).encode())
        made = sum(self._path(one.key).is_file() for one in self.todo)
        self.summary = {"made": made, "seconds": seconds, "failures": failures}

    def _path(self, key: str) -> Path:
        return self.root / RESTORED / f"{key}.png"


def check_settings(root: Path, settings: dict[str, Any]) -> None:
    """Refuse to go on with a folder whose pictures were restored otherwise.

    Raises:
        UserError: naming what differs.
    """
    path = root / RUN_FILE
    earlier = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else settings
    changed = [name for name, value in settings.items() if (earlier or {}).get(name) != value]
    if changed:
        raise UserError(
            f"--output_dir {root} holds pictures restored otherwise ({', '.join(changed)} differs): "
            "give another folder, or the same settings to go on with it"
        )


def write_settings(root: Path, settings: dict[str, Any]) -> None:
    """Write down what decides how a folder's pictures look."""
    write_atomically(root / RUN_FILE, yaml.safe_dump(settings).encode())


def _line(failure: Failure) -> str:
    return json.dumps({"source": failure.source, "reason": failure.reason}, ensure_ascii=False) + "\n"
