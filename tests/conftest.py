"""What all tests share: an offline environment, a few real photographs, and runs of `predict`."""

import os
import signal
from collections.abc import Iterator

os.environ["WANDB_MODE"] = "disabled"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:  # there are as many workers as cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait leave the core to the other workers

import lightning as L
import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch import distributed

from ddpm_pairs.data import HighQualityImages
from ddpm_pairs.synthesis import PairWriter


@pytest.fixture(scope="session")
def photos() -> list[np.ndarray]:
    """Four native crops of photographs, uint8 (96, 128, 3), RGB; treat them as read-only."""
    crops = [
        skimage.data.astronaut()[60:156, 160:288],
        skimage.data.chelsea()[80:176, 120:248],
        skimage.data.coffee()[150:246, 200:328],
        skimage.data.rocket()[200:296, 250:378],
    ]
    for crop in crops:
        crop.flags.writeable = False
    return crops


@pytest.fixture(autouse=True)
def nothing_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the classes that a test trusts."""
    monkeypatch.setattr("ddpm_pairs.trust._trusted", set())


@pytest.fixture(autouse=True)
def signals_as_in_a_terminal() -> Iterator[None]:
    """Ctrl-C and SIGHUP work as in a terminal, also where tests run in the background, which ignores them."""
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def no_process_group_left():
    """A group that one test leaves open makes a later test fail; fail the one that left it."""
    yield
    assert not (distributed.is_available() and distributed.is_initialized()), "a process group is still open"


@pytest.fixture(autouse=True)
def same_ranks() -> Iterator[None]:
    """A run with ``strategy: ddp`` tells processes started later that they are its ranks; take that back."""
    names = ("LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "WORLD_SIZE")
    before = {name: os.environ.get(name) for name in names}
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture(autouse=True)
def same_threads():
    """Generators set the number of threads of the process; put it back."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def hq_folder(tmp_path, photos):
    """Seven pictures of three canvases, one in a subfolder, one of odd size."""
    root = tmp_path / "hq"
    (root / "sub").mkdir(parents=True)
    sizes = {
        "a": (64, 64),
        "b": (64, 64),
        "sub/c": (67, 93),
        "d": (64, 64),
        "B": (96, 64),
        "e": (64, 64),
        "é": (64, 64),
    }
    for number, (key, (height, width)) in enumerate(sizes.items()):
        photo = photos[number % 4][:height, 5 * number : 5 * number + width]
        Image.fromarray(photo).save(root / f"{key}.png")
    return root


@pytest.fixture(scope="session")
def predict():
    """Run predict in this process, as the command line would."""

    def run(generator, hq_dir, output_dir, checkpoint=None, writer_options=None, **data_options):
        data = HighQualityImages(str(hq_dir), **{"num_workers": 0} | data_options)
        if checkpoint is not None:
            generator.walk.denoiser.source = str(checkpoint)
        writer = PairWriter(str(output_dir), **writer_options or {})
        trainer = L.Trainer(
            accelerator="cpu",
            devices=1,
            logger=False,
            callbacks=[writer],
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            use_distributed_sampler=False,
        )
        trainer.predict(generator, data, return_predictions=False)
        return writer.summary

    return run


@pytest.fixture
def content():
    """All files below a folder with their bytes, without what may differ between equal runs."""

    def read(root):
        paths = (path for path in root.rglob("*") if path.is_file())
        files = {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}
        return {name: data for name, data in files.items() if name not in ("run.yaml", "contact_sheet.png")}

    return read


@pytest.fixture
def pixels():
    """A picture file as uint8 (H, W, 3), read by PIL alone."""

    def read(path):
        image = Image.open(path)
        assert image.mode == "RGB"
        return np.asarray(image)

    return read
