"""Grids of samples: their layout, their pictures, and that training does not notice them."""

import cv2
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.logger import DummyLogger

from ddpm_pairs.callbacks import EMA, LastCheckpoint, SampleGrid
from ddpm_pairs.degradations import by_name
from ddpm_pairs.degradations.walk import Sampling, synthesize
from ddpm_pairs.diffusion import Denoiser
from ddpm_pairs.tensors import seed_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")


class Viewer(DummyLogger):
    """A logger that takes pictures, as that of W&B does."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def log_image(self, key, images, step=None):
        self.seen.append((key, images, step))


@pytest.fixture(scope="module")
def hq_dir(tmp_path_factory, photos):
    """Two pictures that are large enough, and one between them that is not."""
    folder = tmp_path_factory.mktemp("hq")
    for name, picture in (("a", photos[0]), ("b", photos[1][:40]), ("c", photos[2])):
        cv2.imwrite(str(folder / f"{name}.png"), picture[..., ::-1])
    return folder


def sample_grid(hq_dir, **options):
    options = {"degradation": "bicubic", "ts": (3, 20, 30), "pictures": 2, "side": 16, "every_n_steps": 4, **options}
    return SampleGrid(str(hq_dir), **options)


def test_writes_a_row_a_picture(trainer, module, pictures, tmp_path, hq_dir):
    logger = CSVLogger(tmp_path, name="logs", version="")
    trainer(8, [EMA(), sample_grid(hq_dir)], logger=logger).fit(module(), pictures())
    files = sorted((tmp_path / "logs" / "samples").iterdir())
    assert [path.name for path in files] == ["step_0000004.png", "step_0000008.png"]
    # HQ, initial LQ, t = 3, t = 20 (30 is beyond what was trained), 64 pixels each, with borders of 4.
    assert cv2.imread(str(files[0])).shape == (2 * 68 + 4, 4 * 68 + 4, 3)


@pytest.mark.parametrize(("every", "steps"), [(1, [4, 8, 12]), (5, [8]), (8, [8]), (100, [])])
def test_is_made_at_the_first_validation_after_so_many_steps(trainer, module, pictures, hq_dir, every, steps):
    viewer = Viewer()
    trainer(12, [sample_grid(hq_dir, every_n_steps=every)], logger=viewer).fit(module(), pictures())
    assert [(key, step) for key, _, step in viewer.seen] == [("samples", step) for step in steps]


def test_goes_on_counting_after_a_resume(trainer, module, pictures, tmp_path, hq_dir):
    for steps, path in ((8, None), (16, str(tmp_path / "last.ckpt"))):
        viewer = Viewer()
        runner = trainer(
            steps, [sample_grid(hq_dir, every_n_steps=8), LastCheckpoint(str(tmp_path), 100)], logger=viewer
        )
        runner.fit(module(), pictures(), ckpt_path=path, weights_only=True)
        assert [step for _, _, step in viewer.seen] == [steps]


def test_shows_what_pairs_would_be(module, photos, hq_dir):
    ours = module()
    grid = sample_grid(hq_dir).grid(ours)
    hq = torch.stack([torch.from_numpy(photos[n][16:80, 32:96].copy()).permute(2, 0, 1) for n in (0, 2)]).float() / 255
    initial = by_name("bicubic").apply(hq, [{}, {}])
    columns = [initial]
    for t in (3, 20):
        denoiser = Denoiser(ours.net, ours.schedule, t_max=20)
        with torch.no_grad():
            seeds = [{name: seed_of(0, key, name) for name in ("noise_seed", "steps_seed")} for key in "01"]
            columns.append(synthesize(denoiser, initial, [{"t": t} | one for one in seeds], Sampling()))
    for row in range(2):
        top = 4 + row * 68
        assert torch.equal(grid[:, top : top + 64, 4:68], hq[row])
        for column, lq in enumerate(columns, start=1):
            cell = grid[:, top : top + 64, 4 + column * 68 : 68 + column * 68]
            assert torch.equal(cell, lq[row].repeat_interleave(4, 1).repeat_interleave(4, 2))
    assert grid[:, :4].eq(1).all()


def test_is_made_with_the_weights_of_validation(trainer, module, pictures, hq_dir):
    # The average has not been updated yet, so the grid is that of the beginning.
    viewer, model = Viewer(), module()
    expected = sample_grid(hq_dir).grid(model)
    trainer(4, [EMA(every_n_steps=10), sample_grid(hq_dir)], logger=viewer).fit(model, pictures())
    ((_, (shown,), _),) = viewer.seen
    np.testing.assert_allclose(shown, expected.permute(1, 2, 0).numpy(), atol=1e-5)


@pytest.mark.slow
def test_training_does_not_notice_it(trainer, module, pictures, tmp_path, hq_dir):
    weights, states = [], []
    for extra in ([], [sample_grid(hq_dir, every_n_steps=1)]):
        torch.manual_seed(5)
        np.random.seed(5)
        model = module(dropout=True)
        trainer(9, [EMA(0.9, 2), *extra, LastCheckpoint(str(tmp_path), 100)]).fit(model, pictures())
        saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
        weights.append(saved["state_dict"] | {f"raw {k}": v for k, v in saved["current_model_state"].items()})
        states.append((torch.get_rng_state(), np.random.get_state()[1]))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert torch.equal(states[0][0], states[1][0])
    assert np.array_equal(states[0][1], states[1][1])


def test_without_a_folder_it_takes_photographs():
    grid = SampleGrid(degradation="bicubic", pictures=3, side=32)
    assert grid.hq.shape == (3, 3, 128, 128)
    assert 0 <= grid.hq.min() < grid.hq.max() <= 1


@pytest.mark.parametrize(
    ("options", "said"),
    [({"side": 40}, "no images of 160 px or more"), ({"degradation": "nonsense"}, "nonsense")],
)
def test_wrong_arguments(hq_dir, options, said):
    with pytest.raises(ValueError, match=said):
        sample_grid(hq_dir, **options)


def test_missing_folder(tmp_path):
    with pytest.raises(ValueError, match="SampleGrid.hq_dir"):
        sample_grid(tmp_path / "none")
