"""A W&B logger that keeps its files in the output folder and resumes with it."""

import netrc
import os
import shlex
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment

from ddpm_pairs.files import write_atomically


class WandbRun(WandbLogger):
    """Lightning's W&B logger with its files in the output folder; resuming a fit resumes its W&B run.

    All files are in ``<output_dir>/wandb/``, including ``run_id``. ``WANDB_MODE`` decides whether to upload if it is
    set. Otherwise a run without an API key is offline, and ``finish`` prints how to upload it.

    Args:
        project: W&B project.
        entity: User or team; ``None`` uses the default of the account.
        name: Name of the run; ``None`` uses the name of the output folder.
        group: Group of the run; W&B shows the runs of a group together.
        tags: Tags of the run.
        offline: Do not upload even with an API key.
    """

    def __init__(
        self,
        project: str = "ddpm_pairs",
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        tags: list[str] | None = None,
        offline: bool = False,
    ) -> None:
        super().__init__(name=name, project=project, entity=entity, group=group, tags=tags)
        self._wandb_init.pop("anonymous")  # W&B warns about it, whatever its value
        self.folder, self.resume, self.keep_offline = Path(), True, offline

    def settle(self, folder: Path, resume: bool, config: dict[str, Any]) -> None:
        """Set the folder; the command line calls this before anything starts.

        Args:
            folder: The ``output_dir``.
            resume: Whether to resume the W&B run whose id is stored there; a new fit gets a new run.
            config: The config to show in W&B.
        """
        self.folder, self.resume = folder, resume
        self._wandb_init["config"] = config

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:  # noqa: ANN401 - wandb's Run, which only rank 0 has
        """The W&B run, started on first use."""
        if self._experiment is None:
            kept = self.folder / "wandb" / "run_id"
            kept.parent.mkdir(parents=True, exist_ok=True)
            self._wandb_init["dir"] = str(self.folder.resolve())  # W&B's process has its own working directory
            if "WANDB_SWEEP_ID" not in os.environ:  # in a sweep, the agent sets both
                self._wandb_init["id"] = kept.read_text().strip() if self.resume and kept.is_file() else None
                self._wandb_init["name"] = self._name or self.folder.resolve().name
            if "WANDB_MODE" not in os.environ and (self.keep_offline or not has_api_key()):
                self._wandb_init["mode"] = "offline"
                self._wandb_init["settings"] = {"silent": True}  # `finish` prints one line instead of W&B's twenty
            run = super().experiment
            if not run.disabled:
                write_atomically(kept, run.id.encode())
        return self._experiment

    def finish(self, exit_code: int = 0) -> None:
        """End the run, and print how to upload an offline one.

        Args:
            exit_code: 0 for success.
        """
        run, self._experiment = self._experiment, None
        if run is None:
            return
        run.finish(exit_code)
        if run.offline and not run.disabled:
            why = "no API key found" if not has_api_key() else "offline mode"
            place = f"{shlex.quote(str(self.folder / 'wandb'))}/offline-run-*-{run.id}"
            print(f"W&B run kept on disk ({why}); to upload it, run: wandb sync {place}", file=sys.stderr)


def has_api_key() -> bool:
    """Whether W&B can log in without a prompt, with ``WANDB_API_KEY`` or the ``.netrc`` of ``wandb login``."""
    import wandb  # only here: importing it takes a moment

    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    settings = wandb.setup().settings
    hosts = {urlsplit(settings.base_url).netloc}
    if settings.base_url == type(settings).model_fields["base_url"].default:
        hosts.add("api.wandb.ai")  # W&B's own server under its older name
    try:
        logins = netrc.netrc(Path(os.environ.get("NETRC", "~/.netrc")).expanduser())
    except (OSError, netrc.NetrcParseError):
        return False
    return any(logins.authenticators(host) for host in hosts)
