"""Face pairs and unrelated natural HQ images, for learning a degradation from faces."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from ddpm_pairs.data.endless import StreamedImages
from ddpm_pairs.data.high_quality_crops import HighQualityCrops
from ddpm_pairs.data.pair_samples import TrainingPairs
from ddpm_pairs.data.pairs import RestorationPairs
from ddpm_pairs.data.transforms import ZoomedCrop
from ddpm_pairs.errors import UserError
from ddpm_pairs.faces.draws import finish
from ddpm_pairs.faces.restored import restored_faces
from ddpm_pairs.faces.samples import FaceSample, FaceSamples, TrainingDraw, stack, validation_draw
from ddpm_pairs.pairset.sources import NotPairsError
from ddpm_pairs.run import Run
from ddpm_pairs.run_folder import FAILURES, read_failures
from ddpm_pairs.tensors import seed_of

FLIPS = (0.5, 0.35)
"""Probabilities of a horizontal and of a vertical flip of a training pair."""


class FacePairs(StreamedImages):
    """Pairs of a real LQ face and its restoration, each with an unrelated natural HQ image (ReDegNet, ECCV 2022).

    Batches contain ``face_hq``, ``face_lq``, ``face_syn_lq``, ``natural_hq``, and ``natural_syn_lq``, each
    (N, 3, S, S), float32 RGB in [0, 1], multiples of 1/255, and ``key``, the list of the keys of the faces.
    ``face_syn_lq`` and ``natural_syn_lq`` of a row are ``face_hq`` and ``natural_hq``, degraded by ``ReDegNetChain``
    with the same parameters and the same noise. ``face_lq`` is the real LQ face on the grid of HQ: LQ at a smaller
    scale is enlarged (bicubic), and LQ of the same size is used as it is. In training, a share of the real LQ faces is
    replaced by ``face_hq`` degraded with a factor of 3 to 6, and another share is degraded further, with a factor of 1
    to 2; both by the shuffled chain.

    Everything random in training sample number i, counted over all ranks from the first step of the run, is a pure
    function of (seed, i), so a resumed fit gets the same samples as an uninterrupted one. It is drawn in the loader
    processes and applied on the device. Validation is deterministic: the center of each face, the real LQ, and the
    shared degradation as determined by the face's key.

    Args:
        faces_dir: Pairs with restored faces as HQ, see ``RestorationPairs``. With ``restorer``, a folder of aligned LQ
            faces, which are restored first, into ``<output_dir>/faces``; see ``restored_faces``.
        hq_dir: Folder of natural HQ images, searched recursively.
        restorer: Weights of a restorer of faces; ``None`` if ``faces_dir`` contains pairs.
        crop_size: Side S of all images in pixels, a multiple of the scale of the pairs; smaller images are padded by
            reflection.
        batch_size: Number of faces, and of natural images, in the batch of one process.
        zoom: Range of the factor by which both sides of a face pair are resized before the crop, uniform, in (0, 1]; a
            crop never covers more than the face. ``[1, 1]`` never resizes.
        lq_shares: Shares of training faces whose real LQ is replaced, degraded further, and used as it is; their sum is
            1.
        color: Whether to turn 5% of the training faces (both sides) and of the natural images gray or almost gray, and
            to scale the channels of 40% of the natural images by 0.9 to 1.1.
        flip: Whether to flip training faces horizontally with probability 0.5 and vertically with 0.35, and natural
            images horizontally with 0.5.
        val_fraction: Share of the faces, and of the natural images, used for validation, at least one each.
        num_workers: Number of loader processes per process of the trainer.
        seed: Seed of everything random in training; validation does not depend on it.

    Raises:
        UserError: If an option is out of range.
    """

    def __init__(
        self,
        faces_dir: str,
        hq_dir: str,
        restorer: str | None = None,
        crop_size: int = 256,
        batch_size: int = 12,
        zoom: tuple[float, float] = (0.66, 1.0),
        lq_shares: tuple[float, float, float] = (0.4, 0.25, 0.35),
        color: bool = True,
        flip: bool = True,
        val_fraction: float = 0.05,
        num_workers: int = 2,
        seed: int = 0,
    ) -> None:
        """Check the options; files are not read before ``find()``."""
        super().__init__(batch_size, val_fraction, num_workers, seed)
        if not 0 < zoom[0] <= zoom[1] <= 1:
            raise UserError(f"--data.zoom: got {list(zoom)}; expected [low, high], 0 < low <= high <= 1")
        if min(lq_shares) < 0 or abs(sum(lq_shares) - 1) > 1e-6:
            raise UserError(f"--data.lq_shares: got {list(lq_shares)}; expected three shares with a sum of 1")
        self.faces_dir, self.hq_dir, self.restorer = faces_dir, hq_dir, restorer
        self.crop_size, self.zoom, self.lq_shares = crop_size, tuple(zoom), tuple(lq_shares)
        self.color, self.flip = color, flip
        self._natural = HighQualityCrops(
            hq_dir, crop_size, batch_size, flip, val_fraction=val_fraction, seed=seed_of(seed, "natural")
        )
        self._faces = self._pairs(faces_dir)
        self._restored: Path | None = None

    def _pairs(self, place: str) -> RestorationPairs:
        pairs = RestorationPairs(
            place, None, None, self.crop_size, self.batch_size, val_fraction=self.val_fraction, seed=self.seed
        )
        pairs.option = "--data.faces_dir"
        return pairs

    def check_run(self, run: Run) -> None:
        """Restore the faces if necessary, and search the folders, before training starts.

        Raises:
            UserError: If a folder, the restorer, or the output folder is unusable.
        """
        if self.restorer is not None:
            self._natural.find()  # before the long work
            device = run.trainer.strategy.root_device
            self._restored = restored_faces(self.faces_dir, self.restorer, run.output_dir / "faces", device)
            self._faces = self._pairs(str(self._restored))
        super().check_run(run)

    def _find(self) -> None:
        if self.restorer is not None and self._restored is None:
            raise UserError(
                "--data.restorer: faces are restored by `lightning fit`; in Python, restore them with "
                "ddpm_pairs.faces.restored_faces, and give its result as faces_dir"
            )
        self._natural.find()
        try:
            self._faces.find()
        except NotPairsError as error:
            raise UserError(f"{error}, or a folder of LQ faces with --data.restorer") from None
        unrestored = [] if self._restored is None else read_failures(self._restored / FAILURES)
        self.failures = list(dict.fromkeys([*unrestored, *self._faces.failures, *self._natural.failures]))

    def setup(self, stage: str) -> None:
        """Find the files, and before a fit, check the size and the alignment of the faces.

        Raises:
            UserError: If files are missing or unusable, or there are fewer validation faces than ranks.
        """
        self.find()
        self._faces.trainer = self.trainer  # for its rank
        self._faces.setup(stage)
        super().setup(stage)

    @property
    def epoch_samples(self) -> int:
        """Number of training faces, after ``find()``."""
        return self._faces.epoch_samples

    def training_samples(self) -> Dataset:
        """Return a dataset whose item i, for any i >= 0, is training sample number i."""
        crop = ZoomedCrop(self.crop_size, self._faces.scale, self.zoom, FLIPS if self.flip else (0.0, 0.0))
        faces = TrainingPairs(self._faces.train_pairs, [1.0], crop, self.seed)
        return FaceSamples(faces, self._natural.training_samples(), TrainingDraw(self.seed, self.lq_shares, self.color))

    def validation_samples(self) -> Dataset:
        """Return the center of each validation face with a natural image."""
        return FaceSamples(self._faces.validation_samples(), self._natural.validation_samples(), validation_draw)

    def collate(self, training: bool) -> Callable[[list[FaceSample]], dict[str, Any]]:
        """Return a function that makes batches of faces of different sizes, natural images, and draws."""
        return stack

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Resize, change colors, and degrade; see ``finish``."""
        images = finish(batch["hq"], batch["lq"], batch["natural"], batch["draws"], self.crop_size)
        return images | {"key": batch["key"]}
