"""The class that docs/degradations.md shows keeps the rules that the page states, in the manifest and in ``remake``."""

import json
import sys

import pytest
import torch
from doc_pages import blocks, commands, tiny
from PIL import Image

from ddpm_pairs.cli.main import main
from ddpm_pairs.degradations.base import Degradation
from ddpm_pairs.pairset.folder import read_run

PAGE = "docs/degradations.md"


@pytest.fixture
def place(tmp_path, photos, monkeypatch):
    """A folder with HQ/ and the page's own module, on the path as with PYTHONPATH=."""
    (tmp_path / "HQ").mkdir()
    for number, photo in enumerate(photos):
        Image.fromarray(photo).save(tmp_path / "HQ" / f"{number}.png")
    (code,) = [one.text for one in blocks(PAGE) if one.file == "my_degradations.py"]
    (tmp_path / "my_degradations.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_degradations", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands_with(*words):
    found = [line for one in blocks(PAGE) if one.language == "bash" for line in commands(one)]
    return [line[1:] for line in found if all(word in line for word in words)]


def test_pairs_of_the_class_are_recorded_and_remade(place, capsys):
    (words,) = commands_with("predict", "my_degradations.OldPrint")
    assert main([*words, *tiny(words)]) == 0
    root = place / words[words.index("--output_dir") + 1]
    lines = [json.loads(line) for line in (root / "manifest.jsonl").open()]
    assert len(lines) == 4 and all(line["degradation"]["name"] == "old_print" for line in lines)
    assert 0.1 < max(line["degradation"]["parameters"]["fading"] for line in lines) <= 0.3
    assert read_run(root)["settings"]["degradation"]["init_args"] == {"fading": 0.3, "scale": 4}
    assert main(["remake", str(root), lines[0]["key"]]) == 2
    assert "run.yaml names the class my_degradations.OldPrint" in capsys.readouterr().err
    (remake,) = commands_with("remake", "--trust_classes")
    trust = remake[remake.index("--trust_classes") :]
    assert [main(["remake", str(root), line["key"], *trust]) for line in lines] == [0] * 4


def test_class_keeps_the_rules(place):
    from my_degradations import OldPrint

    model = OldPrint()
    assert isinstance(model, Degradation)
    hq = torch.rand(4, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    parameters = [model.draw(torch.Generator().manual_seed(n)) for n in range(4)]
    lq = model.apply(hq, json.loads(json.dumps(parameters)))
    assert lq.shape == (4, 3, 8, 12) and torch.equal((lq * 255).round() / 255, lq)
    assert torch.equal(model.apply(hq.flip(0), parameters[::-1]).flip(0), lq)


@pytest.mark.slow
def test_previews_are_named_as_the_page_says(place):
    for words in commands_with("preview"):
        if "preview/" in words:  # the others need weights that the page makes first, in test_commands
            assert main([*words, *tiny(words)]) == 0
    made = {path.name for path in (place / "preview").iterdir()}
    assert made >= {f"{name}_{kind}.png" for name in ("bsrgan", "old_print") for kind in ("draws", "parameters")}
