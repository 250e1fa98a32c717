"""What all DataModules of this project share."""

import os
import threading
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import cv2
import lightning as L
from torch.utils.data import DataLoader, Dataset, Sampler

from ddpm_pairs.errors import UserError
from ddpm_pairs.images.find import Failure
from ddpm_pairs.run import Run


class PictureDataModule(L.LightningDataModule, ABC):
    """Base of the DataModules: common options, the search for files, and the list of what cannot be used.

    Args:
        batch_size: pictures in a batch of one process; None where the DataModule chooses it.
        num_workers: loader processes for each process of the trainer; 0 loads in the process itself.
        seed: seed of everything random in the data.

    Attributes:
        failures: files that cannot be used, found so far in this process.
    """

    def __init__(self, batch_size: int | None, num_workers: int, seed: int) -> None:
        """Check the options; files are not looked at before `find()`."""
        super().__init__()
        if batch_size is not None:
            require("--data.batch_size", batch_size, 1)
        require("--data.num_workers", num_workers, 0)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.failures: list[Failure] = []
        self._found = False

    def find(self) -> None:
        """Look at the folders; a second call does nothing.

        Raises:
            UserError: a folder is missing, is no folder, or holds nothing that can be used.
        """
        if not self._found:
            self._find()
            self._found = True

    @abstractmethod
    def _find(self) -> None:
        """Fill the lists of pictures and failures, or raise what `find` says."""

    def check_run(self, run: Run) -> None:
        """Look at the folders before any work; see `setup`."""
        self.trainer = run.trainer  # it knows the number of ranks
        self.setup(run.verb)

    def setup(self, stage: str) -> None:
        """Look at the folders, where the command line has not done so already."""
        self.find()

    @property
    def rank(self) -> int:
        """This process among those of the trainer, from 0; 0 without a trainer."""
        return self.trainer.global_rank if self.trainer else 0

    @property
    def world_size(self) -> int:
        """Number of processes of the trainer; 1 without a trainer."""
        return self.trainer.world_size if self.trainer else 1

    def report(self, failures: list[Failure]) -> None:
        """Add failures met while loading to `failures`, each once, and warn of the new ones."""
        for failure in failures:
            if failure not in self.failures:
                self.failures.append(failure)
                warnings.warn(f"{failure.source} is left out: {failure.reason}", stacklevel=2)

    def _loader(
        self,
        dataset: Dataset,
        sampler: Sampler,
        batch_size: int | None,
        collate: Callable[[list], Any] | None = None,
        persistent: bool = False,
    ) -> DataLoader:
        # Keyword arguments only: Lightning builds the loader of predict a second time and loses positional ones.
        return DataLoader(
            dataset=dataset,
            sampler=sampler,
            batch_size=batch_size,
            collate_fn=collate,
            num_workers=self.num_workers,
            persistent_workers=persistent and self.num_workers > 0,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
            worker_init_fn=_begin_worker,
        )


def require(option: str, value: float, minimum: float) -> None:
    """Check a number that the user gave.

    Raises:
        UserError: `value` is below `minimum`.
    """
    if value < minimum:
        raise UserError(f"{option}: got {value}; give {minimum} or more")


def _begin_worker(worker: int) -> None:
    """OpenCV's threads do not outlive a fork, and the workers already share the cores."""
    cv2.setNumThreads(0)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process a second after its parent at the latest.

    A worker of torch that is sending a batch when its parent is killed waits for ever. The sockets that it inherited
    stay open with it, so that the other ranks wait for the dead one, too.
    """
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
