"""HQ images and unrelated real LQ images."""

from torch.utils.data import DataLoader

from ddpm_pairs.data.crops import find_large_enough
from ddpm_pairs.data.high_quality import HighQualityImages
from ddpm_pairs.images.find import Picture


class UnpairedImages(HighQualityImages):
    """Batches of whole HQ images, and the list of real LQ images with which the synthesized LQ is compared.

    Test batches are the predict batches of ``HighQualityImages``.

    Args:
        hq_dir: Folder of HQ images, searched recursively.
        lq_dir: Folder of real LQ images, searched recursively.
        batch_size: Number of images per batch if nothing is scheduled; ``None`` uses 8.
        num_workers: Number of loader processes per process of the trainer.
        seed: Seed of the run; the images do not depend on it.

    Attributes:
        real: The real LQ images, sorted by key, after ``find()``.
    """

    def __init__(
        self, hq_dir: str, lq_dir: str, batch_size: int | None = None, num_workers: int = 2, seed: int = 0
    ) -> None:
        """Check the options; files are not read before ``find()``."""
        super().__init__(hq_dir, batch_size, num_workers, seed)
        self.lq_dir = lq_dir
        self.real: list[Picture] = []

    def _find(self) -> None:
        super()._find()
        self.real, failures = find_large_enough(self.lq_dir, "--data.lq_dir")
        self.failures = self.failures + failures

    def test_dataloader(self) -> DataLoader:
        """Return this rank's batches of the schedule, or of all HQ images in order."""
        return self.predict_dataloader()
