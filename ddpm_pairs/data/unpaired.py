"""HQ pictures and real LQ pictures that show other things."""

from torch.utils.data import DataLoader

from ddpm_pairs.data.crops import find_large_enough
from ddpm_pairs.data.high_quality import HighQualityImages
from ddpm_pairs.images.find import Picture


class UnpairedImages(HighQualityImages):
    """Whole HQ pictures in batches, and the list of the real LQ pictures that they are compared with.

    A batch of test is that of predict in ``HighQualityImages``.

    Args:
        hq_dir: folder of HQ pictures, searched with its subfolders.
        lq_dir: folder of real LQ pictures, likewise.
        batch_size: pictures in a batch where nothing was scheduled; None takes 8.
        num_workers: loader processes for each process of the trainer.
        seed: seed of the run; the pictures do not depend on it.

    Attributes:
        real: the LQ pictures found, sorted by key, after `find()`.
    """

    def __init__(
        self, hq_dir: str, lq_dir: str, batch_size: int | None = None, num_workers: int = 2, seed: int = 0
    ) -> None:
        """Check the options; files are not looked at before `find()`."""
        super().__init__(hq_dir, batch_size, num_workers, seed)
        self.lq_dir = lq_dir
        self.real: list[Picture] = []

    def _find(self) -> None:
        super()._find()
        self.real, failures = find_large_enough(self.lq_dir, "--data.lq_dir")
        self.failures = self.failures + failures

    def test_dataloader(self) -> DataLoader:
        """This rank's batches of the schedule, or of all HQ pictures in order."""
        return self.predict_dataloader()
