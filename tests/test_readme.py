"""What the README shows is run as it stands there."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from ddpm_pairs.cli.main import main
from ddpm_pairs.pairset.run_file import read_run
from ddpm_pairs.protocols import OwnDegradation

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


def commands(*words):
    """The words of the commands that hold all of some words, without the program's name and what stands before it."""
    blocks = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", README, re.DOTALL | re.MULTILINE)
    lines = [line.strip() for language, block in blocks if not language for line in block.splitlines()]
    found = [shlex.split(line) for line in lines if all(word in line for word in words)]
    assert found
    return [line[1 + next(n for n, word in enumerate(line) if word in ("lightning", "ddpm-pairs")) :] for line in found]


@pytest.fixture
def place(tmp_path, photos, monkeypatch):
    """An empty folder with HQ/ and the file of the README's own degradation, on the path as PYTHONPATH=. has it."""
    threads = torch.get_num_threads()
    (tmp_path / "HQ").mkdir()
    for number, photo in enumerate(photos):
        Image.fromarray(photo).save(tmp_path / "HQ" / f"{number}.png")
    (code,) = re.findall(r"^```python\n# my_degradations\.py\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    (tmp_path / "my_degradations.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_degradations", raising=False)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    torch.set_num_threads(threads)


def test_own_degradation(place):
    (words,) = commands("predict", "my_degradations.OldPrint")
    assert main([*words, "--trainer.accelerator=cpu", "--data.num_workers=0"]) == 0
    root = place / words[words.index("--output_dir") + 1]
    lines = [json.loads(line) for line in (root / "manifest.jsonl").open()]
    assert len(lines) == 4 and all(line["degradation"]["name"] == "old_print" for line in lines)
    assert 0.1 < max(line["degradation"]["parameters"]["fading"] for line in lines) <= 0.3
    assert read_run(root)["settings"]["degradation"]["init_args"] == {"fading": 0.3, "scale": 4}
    assert [main(["remake", str(root), line["key"]]) for line in lines] == [0] * 4


def test_own_degradation_keeps_the_rules(place):
    from my_degradations import OldPrint

    model = OldPrint()
    assert isinstance(model, OwnDegradation)
    hq = torch.rand(4, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    parameters = [model.draw(torch.Generator().manual_seed(n)) for n in range(4)]
    lq = model.apply(hq, json.loads(json.dumps(parameters)))
    assert lq.shape == (4, 3, 8, 12) and torch.equal((lq * 255).round() / 255, lq)
    assert torch.equal(model.apply(hq.flip(0), parameters[::-1]).flip(0), lq)


def test_previews(place):
    for words in commands("preview"):
        assert main([*words, "--pictures", "1", "--draws", "2"]) == 0
    made = {path.name for path in (place / "preview").iterdir()}
    assert made == {f"{name}_{kind}.png" for name in ("bsrgan", "old_print") for kind in ("draws", "parameters")}


def test_on_the_fly(place):
    (place / "my_restorers.py").write_text(
        "import lightning as L, torch\n"
        "class Restorer(L.LightningModule):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.bias = torch.nn.Parameter(torch.zeros(()))\n"
        "    def training_step(self, batch, batch_idx):\n"
        "        assert batch['hq'].shape[-1] == 4 * batch['lq'].shape[-1] == 256\n"
        "        return (batch['lq'].mean() + self.bias - batch['hq'].mean()).abs()\n"
        "    def configure_optimizers(self):\n"
        "        return torch.optim.SGD(self.parameters(), 0.1)\n"
    )
    (words,) = commands("fit", "DegradedImages")
    quick = "--trainer.max_steps 1 --trainer.accelerator cpu --data.num_workers 0 --data.batch_size 2"
    quiet = "--trainer.enable_progress_bar false --trainer.enable_model_summary false --trainer.limit_val_batches 0"
    (option,) = re.findall(r"^`(--data\.hq_preparation [^`]*)`", README, re.MULTILINE)
    assert main([*words, *shlex.split(f"{option} {quick} {quiet} --output_dir run")]) == 0
    sys.modules.pop("my_restorers")
