import json
import subprocess
import sys
from pathlib import Path

import pytest
from picture_pairs import spoil
from PIL import Image

SCRIPT = """
import json, sys
from pathlib import Path
import lightning as L
import torch
from ddpm_pairs.data import HighQualityImages, LowQualityImages, RestorationPairs

class Listener(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = {"train": [], "val": [], "predict": [], "test": [], "ends": 0}

    def training_step(self, batch, batch_idx):
        self.seen["train"].append((batch["lq"][:, 0, 0, 0] * 255).round().tolist())
        return (self.weight - batch["lq"].mean()) ** 2

    def validation_step(self, batch, batch_idx):
        self.seen["val"].append(batch["key"])

    def test_step(self, batch, batch_idx):
        self.seen["test"].append(batch["key"])

    def predict_step(self, batch, batch_idx):
        self.seen["predict"].append([picture.key for picture in batch["pictures"]])
        return batch_idx

    def on_predict_end(self):
        self.trainer.strategy.barrier()
        self.seen["ends"] += 1

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

if __name__ == "__main__":
    root, out = sys.argv[1:]
    model = Listener()
    trainer = L.Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_steps=4, num_sanity_val_steps=0, val_check_interval=4,
        check_val_every_n_epoch=None, logger=False, enable_checkpointing=False, enable_progress_bar=False,
    )
    hq = str(Path(root, "hq"))
    trainer.fit(model, LowQualityImages(hq, crop_size=16, batch_size=3, val_dir=hq, num_workers=0))
    data = HighQualityImages(hq, num_workers=0)
    data.find()
    for batches in ([data.pictures[:2], data.pictures[2:3], data.pictures[3:]], [data.pictures]):
        data.schedule(batches)
        trainer.predict(model, data, return_predictions=False)
    trainer.test(model, RestorationPairs(root, num_workers=0), verbose=False)
    Path(out, f"{trainer.global_rank}.json").write_text(json.dumps(model.seen))
"""


@pytest.mark.slow
def test_two_processes_share_the_work_without_any_setting(tmp_path):
    """Lightning's own sampler, left on, must change nothing."""
    root = tmp_path / "pictures"
    for side in ("hq", "lq"):
        (root / side).mkdir(parents=True)
        for number in range(1, 6):
            Image.new("RGB", (20, 20), (10 * number, 0, 0)).save(root / side / f"{number}.png")
    spoil(root / "lq" / "1.png")
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py", str(root), str(tmp_path)]
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=240, capture_output=True)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first["val"] == [["1", "3", "5"]] and second["val"] == [["2", "4"]]
    assert first["predict"] == [["1", "2"], ["4", "5"], ["1", "2", "3", "4", "5"]] and second["predict"] == [["3"], []]
    assert first["test"] == [["3"], ["5"]] and second["test"] == [["2"], ["4"]]  # the first pair is broken
    assert first["ends"] == second["ends"] == 2
    pairs = zip(sum(first["train"], []), sum(second["train"], []), strict=True)
    stream = [red for pair in pairs for red in pair]
    assert len(stream) == 24
    for start in range(0, 20, 5):
        assert sorted(stream[start : start + 5]) == [10, 20, 30, 40, 50]
