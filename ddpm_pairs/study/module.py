"""The t study as a LightningModule: ``lightning test --config ablation.yaml``."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import lightning as L
import torch
from rich.console import Console
from torch import Tensor

from ddpm_pairs.data.crops import MIN_SIDE
from ddpm_pairs.data.high_quality import HighQualityPicture
from ddpm_pairs.data.unpaired import UnpairedImages
from ddpm_pairs.degradations.walk import generator_for
from ddpm_pairs.diffusion.denoiser import Denoiser
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import write_atomically
from ddpm_pairs.images.find import Failure, Picture
from ddpm_pairs.metrics.features import FeatureNetwork, Inception, RandomFeatures, extract
from ddpm_pairs.metrics.set_scores import LEAST_PICTURES
from ddpm_pairs.metrics.weights import INCEPTION, weights_path
from ddpm_pairs.study.cells import make_cells, table, write_csv
from ddpm_pairs.study.figures import save_grid, save_plot
from ddpm_pairs.study.folder import PictureResult, StudyFolder, stack
from ddpm_pairs.study.recommendation import Recommendation, recommend
from ddpm_pairs.study.report import study_report
from ddpm_pairs.study.sets import BATCH, choose_pictures, read_real_set
from ddpm_pairs.synthesis.batching import plan_batches
from ddpm_pairs.synthesis.generator import Pair, PairGenerator, Work


class TStudy(L.LightningModule):
    """Makes every HQ picture's LQ for a list of t and of degradations, and compares the sets with real LQ pictures.

    LQ is what ``predict`` would write at that t. Of each, the same native patch is kept; patches of all pictures in a
    cell are compared with as many of the real pictures. t = 0, the handcrafted start, is always among the t.

    Args:
        degradations: Names of handcrafted starts.
        ts: Steps; those beyond the checkpoint's training are left out, and it says so.
        pictures: HQ pictures to take, a seeded choice; all where there are fewer.
        patch: Side of the patches, LQ pixels.
        scale: HQ sides over LQ sides.
        preset: The degradations', ``natural`` or ``faces``.
        psnr_drop: The recommended t may cost this many dB of median PSNR against t = 0; null allows any.
        psnr_floor: The recommended t keeps this median PSNR in dB; null asks for none.
        mode: As ``PairGenerator``'s.
        sampler: As ``PairGenerator``'s.
        num_steps: As ``PairGenerator``'s.
        slots: As ``PairGenerator``'s.
        tile: As ``PairGenerator``'s.
        threads: As ``PairGenerator``'s.
        precision: As ``PairGenerator``'s; a study that goes on keeps the one that it began with.
        features: ``inception``, or ``random`` to try out a study without weights.
        seed: Seed of everything drawn; the command line sets it to ``seed_everything``.

    Raises:
        UserError: for values outside their range.
    """

    verb_jobs: ClassVar = {"test": "ddpm_pairs.cli.jobs.study"}

    def __init__(
        self,
        degradations: list[str] = ["real_esrgan", "bicubic"],  # noqa: B006 - never changed; a config shows it
        ts: list[int] = [0, 20, 50, 100, 200],  # noqa: B006
        pictures: int = 300,
        patch: int = 64,
        scale: int = 4,
        preset: Literal["natural", "faces"] = "natural",
        psnr_drop: float | None = 2.0,
        psnr_floor: float | None = None,
        mode: Literal["fast", "default", "high", "exact"] = "default",
        sampler: Literal["sde-dpmsolver++", "dpmsolver++", "ddim", "ancestral"] | None = None,
        num_steps: int | None = None,
        slots: int = 8,
        tile: int | None = 256,
        threads: int = 2,
        precision: Literal["fp32", "bf16"] | None = None,
        features: Literal["inception", "random"] = "inception",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not degradations or len(set(degradations)) < len(degradations):
            raise UserError(f"degradations is {degradations}: expected one name or more, each once")
        if min(ts, default=-1) < 0:
            raise UserError(f"ts is {ts}: expected steps from 0 on")
        if pictures < LEAST_PICTURES:
            raise UserError(f"pictures is {pictures}: expected {LEAST_PICTURES} or more")
        if patch < MIN_SIDE:
            raise UserError(f"patch is {patch}: expected {MIN_SIDE} px or more")
        self.ts = sorted({0, *ts})
        shared = {"scale": scale, "preset": preset, "slots": slots, "tile": tile, "threads": threads, "seed": seed}
        walk = {"mode": mode, "sampler": sampler, "num_steps": num_steps, "precision": precision}
        self.generators = [  # their t_max only says that a network is needed; t is set picture by picture
            PairGenerator(name, t_max=max(self.ts), **shared, **walk) for name in degradations
        ]
        for generator in self.generators:
            generator.machine = self.generators[0].machine  # one network serves them all
        self.degradations = list(degradations)
        self.settings = {
            "degradations": self.degradations,
            "ts": self.ts,
            "pictures": pictures,
            "patch": patch,
            **shared,
            "sampler": self.generators[0].sampling.sampler,
            "num_steps": self.generators[0].sampling.num_steps,
            "precision": precision,
            "features": features,
        }
        self.patch, self.scale, self.seed = patch, scale, seed
        self.psnr_drop, self.psnr_floor, self.features = psnr_drop, psnr_floor, features
        self.left_out: list[int] = []
        self.chosen: list[Picture] = []
        self.failures: list[Failure] = []
        self.folder: StudyFolder | None = None
        self.network: FeatureNetwork | None = None

    def prepare(
        self, denoiser: Denoiser, checkpoint: str, data: UnpairedImages, root: Path, device: torch.device
    ) -> None:
        """Find every reason not to begin, and schedule what is not done yet.

        Args:
            denoiser: The DDPM.
            checkpoint: SHA-256 of its file.
            data: The folders, searched already.
            root: The study's folder.
            device: Where to compute.

        Raises:
            UserError: for too few pictures, a study of other settings in the folder, or missing weights.
        """
        self.left_out = [t for t in self.ts if t > denoiser.t_max]
        self.ts = [t for t in self.ts if t <= denoiser.t_max]
        self.chosen = choose_pictures(
            data.pictures, self.settings["pictures"], self.patch, self.scale, self.seed, self.failures
        )
        if len(data.real) < 2 * LEAST_PICTURES:
            raise UserError(
                f"--data.lq_dir {data.lq_dir} has {len(data.real)} pictures: expected {2 * LEAST_PICTURES} or more, "
                "which can be halved to see how far real pictures lie from real ones"
            )
        self.settings |= {"ts": self.ts, "checkpoint": checkpoint}
        self.folder, machine = StudyFolder(root), self.generators[0].machine
        if machine.precision is None:
            machine.precision = self.settings["precision"] = (self.folder.settings() or {}).get("precision")
        self.folder.check(self.settings)
        self.network = Inception(weights_path(INCEPTION)) if self.features == "inception" else RandomFeatures()
        self.network.to(device)
        self.generators[0].t_max, self.generators[0].denoiser = max(self.ts), denoiser
        self.generators[0].check()
        self._use(machine.prepare(denoiser, device), device)
        # all generators cut canvases alike; a batch goes through the network t by t, so that no slot stays empty
        todo = [picture for picture in self.chosen if not self.folder.has(picture.key)]
        data.schedule(plan_batches(todo, self.generators[0]).batches)
        self._data = [data]  # in a list, so as not to become a submodule of anything

    def _use(self, denoiser: Denoiser, device: torch.device) -> None:
        """Let all generators make pairs with one network."""
        for generator in self.generators:
            generator.denoiser = denoiser
            generator.to(device)
        self.settings["precision"] = self.generators[0].precision

    def on_test_start(self) -> None:
        """Let the ranks agree on how to work, and write down the settings."""
        machine = self.generators[0].machine
        self._use(machine.agree(self.generators[0].denoiser, self.trainer.strategy, self.device), self.device)
        self.folder.rank = self.trainer.global_rank
        if self.trainer.is_global_zero:
            self.folder.begin(self.settings)
        self.trainer.strategy.barrier()

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Finish the pictures of a batch."""
        self.folder.report(batch["failures"])
        for result in self.results_of(batch["pictures"]):
            self.folder.save(result)

    def on_test_epoch_end(self) -> None:
        """Wait until every rank has finished its pictures; the report is made from all of them."""
        self.trainer.strategy.barrier("pictures of all ranks")

    @torch.inference_mode()
    def results_of(self, pictures: list[HighQualityPicture]) -> Iterator[PictureResult]:
        """Pictures of one canvas size in all cells; those of a degradation and a t go through the network together."""
        made = [list(generator.make(self._work(generator, pictures))) for generator in self.generators]
        for n, picture in enumerate(pictures):
            yield self._result(picture.key, [row[n :: len(pictures)] for row in made])

    def _work(self, generator: PairGenerator, pictures: list[HighQualityPicture]) -> list[Work]:
        drawn = [generator.draw(picture) for picture in pictures]
        return [replace(one, t=t) for t in self.ts for one in drawn]

    def _result(self, key: str, pairs: list[list[Pair]]) -> PictureResult:
        """What is kept of a picture; ``pairs`` has a row a degradation, in it a pair a t."""
        height, width = pairs[0][0].lq.shape[1:]
        place = generator_for(self.seed, key, "patch")
        top, left = (int(torch.randint(side - self.patch + 1, (), generator=place)) for side in (height, width))

        def cut(pixels: Tensor, times: int) -> Tensor:
            box = [slice(start * times, (start + self.patch) * times) for start in (top, left)]
            return pixels[:, box[0], box[1]]

        patches = torch.stack([torch.stack([cut(pair.lq, 1) for pair in row]) for row in pairs])
        psnr = [[_infinite(pair.record["psnr"]) for pair in row] for row in pairs]
        flat = extract(self.network, [part.to(self.device) for part in patches.flatten(0, 1).split(BATCH)])
        return PictureResult(
            key,
            cut(pairs[0][0].hq, self.scale).contiguous(),
            patches,
            torch.tensor(psnr, dtype=torch.float64),
            {name: values.unflatten(0, patches.shape[:2]) for name, values in flat.items()},
        )

    def report(self, checkpoint: str) -> Recommendation:
        """Score all cells; write ``ablation.csv`` and ``.png``, ``grid.png``, ``recommendation.json``, ``report.html``.

        Args:
            checkpoint: What ``--ckpt_path`` was typed as, for the command that is recommended.

        Raises:
            UserError: if fewer than 4 pictures could be finished.
        """
        results = [self.folder.load(picture.key) for picture in self.chosen if self.folder.has(picture.key)]
        if len(results) < LEAST_PICTURES:
            raise UserError(f"{len(results)} pictures could be finished: expected {LEAST_PICTURES} or more")
        together, (data,) = stack(results), self._data
        real = read_real_set(data.real, len(results), self.patch, self.seed, self.network, self.device, self.failures)
        self.failures = self.folder.join(self.failures)
        schedule = self.generators[0].denoiser.schedule
        logsnrs = [schedule.log_snr_at(t) if t > 0 else None for t in self.ts]
        cells = make_cells(together, self.degradations, self.ts, logsnrs, real)
        chosen = recommend(cells, self.psnr_drop, self.psnr_floor, real.floor.kid, self._command(checkpoint))
        root = self.folder.root
        write_csv(root / "ablation.csv", cells, real)
        save_plot(root / "ablation.png", cells, real, chosen)
        save_grid(root / "grid.png", together, self.degradations, self.ts)
        write_atomically(root / "recommendation.json", (json.dumps(chosen.as_dict(), indent=2) + "\n").encode())
        page = study_report(cells, real, chosen, results, self.settings, self._notes())
        write_atomically(root / "report.html", page.encode())
        self._print(table(cells, real), chosen)
        return chosen

    def _command(self, checkpoint: str) -> str:
        """What to type for pairs, with ``{degradation}`` and ``{t}`` in it."""
        config = "pairs.yaml" if self.settings["preset"] == "faces" else "pairs_natural.yaml"
        (data,) = self._data
        folder = shlex.quote(data.hq_dir).replace("{", "{{").replace("}", "}}")
        return (
            f"lightning predict --config {config} --ckpt_path {shlex.quote(checkpoint)} --data.hq_dir {folder} "
            f"--model.scale {self.scale} --model.degradation {{degradation}} --model.t_min {{t}} --model.t_max {{t}} "
            "--output_dir pairs"
        )

    def _notes(self) -> list[str]:
        notes = []
        if self.left_out:
            notes.append(f"t beyond the checkpoint's training was left out: {', '.join(map(str, self.left_out))}")
        if self.failures:
            notes.append(f"pictures left out: {len(self.failures)}, such as {vars(self.failures[0])}")
        return notes

    def _print(self, cells: str, chosen: Recommendation) -> None:
        console = Console(highlight=False, soft_wrap=True)
        console.print(cells)
        for note in self._notes():
            console.print(note)
        for warning in chosen.warnings:
            console.print(f"warning: {warning}")
        console.print(f"recommended: {chosen.words}\n  {chosen.command}")


def _infinite(psnr: float | None) -> float:
    """The manifest's PSNR, where ``None`` stands for equal pictures."""
    return float("inf") if psnr is None else psnr
