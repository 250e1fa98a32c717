"""Every command and every Python block of README and docs runs as it stands there, on tiny data.

The blocks of a page run in their order in one folder, as a reader would type them, so what a command needs has to be
made by an earlier one, or be listed in ``GIVEN``.
"""

import functools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import skimage.data
import torch
import yaml
from doc_pages import NOT_RUN, PAGES, PROGRAMS, ROOT, blocks, commands, reason_not_to_run, tiny
from PIL import Image
from tiny_ddpm import save_ckpt, tiny_denoiser
from torch import distributed

from ddpm_pairs.cli.main import _verb_parsers, main
from ddpm_pairs.demo import main as demo

GIVEN = {
    "docs/choosing-t.md": ["runs/ddpm_natural/last.ckpt", "pairs", "restored"],
    "docs/degradations.md": ["runs/ddpm_natural/last.ckpt", "faces"],
    "docs/pairs-format.md": ["runs/ddpm_natural/last.ckpt", "pairs"],
    "docs/python-api.md": ["results", "my_degradations.py"],
    "docs/restorers.md": ["pairs", "handcrafted", "test_pairs"],
    "docs/scaling.md": ["runs/ddpm/last.ckpt"],
}
"""What lies in the folder before the first block of a page, besides ``HQ/`` and ``LQ/``."""

FAST = ("docs/options.md", "docs/wandb.md", "docs/pairs-format.md")
WITH_BLOCKS = [page for page in PAGES if any(one.language in ("bash", "python", "yaml") for one in blocks(page))]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with ``HQ/``, ``LQ/`` and the user's own modules on the path, and a demo of toy size.

    One thread, whatever a command asks for: the machine may be shared, and no test here is about speed.
    """
    torch.set_num_threads(1)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    size = {"lq_pictures": 4, "lq_side": 40, "hq_pictures": 3, "hq_side": 128, "channels": (8, 16), "steps": 4}
    monkeypatch.setattr(demo, "Recipe", functools.partial(demo.Recipe, **size, trained_t=8, t_min=2, t_max=6))
    for name, photo, side, count in (("HQ", skimage.data.astronaut(), 128, 5), ("LQ", skimage.data.coffee(), 64, 8)):
        (tmp_path / name).mkdir()
        for n in range(count):
            Image.fromarray(photo[40 * n :][:side, 30 * n :][:, :side]).save(tmp_path / name / f"{n}.png")
    before = set(sys.modules)
    yield tmp_path
    if distributed.is_initialized():  # by `--trainer.strategy ddp`; Lightning closes it when the process ends
        distributed.destroy_process_group()
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


def provide(place, name):
    """Make one of the things that ``GIVEN`` lists."""
    path = place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".ckpt":
        save_ckpt(tiny_denoiser(t_max=500), path)
    elif name == "results":
        path.symlink_to(ROOT / "results")
    elif path.suffix == ".py":
        (block,) = [one for page in PAGES for one in blocks(page) if one.file == name]
        path.write_text(block.text)
    elif name == "restored":
        shutil.copytree(place / "HQ", path)
    else:
        checkpoint = "runs/ddpm_natural/last.ckpt"
        if not (place / checkpoint).exists():
            provide(place, checkpoint)
        words = ["predict", "--config", "pairs_natural.yaml", "--ckpt_path", checkpoint, "--data.hq_dir", "HQ/"]
        run([*words, "--output_dir", name])


def run(words):
    """Run a command of ours in this process."""
    try:
        status = main([*words, *tiny(words)])
    except SystemExit as end:  # --help and --print_config
        status = end.code or 0
    assert status == 0, f"{' '.join(words)} ended with status {status}"


def training_loop():
    """The names that a Python block finds in the reader's own training loop."""
    model = torch.nn.Sequential(torch.nn.Upsample(scale_factor=4), torch.nn.Conv2d(3, 3, 3, padding=1))
    random = torch.Generator().manual_seed(0)
    loader = [torch.rand(2, 3, 64, 96, generator=random) for _ in range(2)]
    return {"model": model, "loader": loader, "optimizer": torch.optim.SGD(model.parameters(), 0.1)}


def tell(page):
    """Run the blocks of a page; the names that its Python blocks leave."""
    names = training_loop()
    for block in blocks(page):
        if block.file is not None:
            Path(block.file).write_text(block.text)
        elif block.language == "yaml":
            yaml.safe_load(block.text)
        elif block.language == "python":
            exec(compile(block.text, f"{page}:{block.line}", "exec"), names)
        elif block.language == "bash":
            for words in commands(block):
                if words[0] in PROGRAMS and reason_not_to_run(words) is None:
                    run(words[1:])
    return names


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[] if page in FAST else pytest.mark.slow) for page in WITH_BLOCKS]
)
def test_a_page_works_word_for_word(page, place):
    for name in GIVEN.get(page, []):
        provide(place, name)
    tell(page)


def test_readme_works_with_the_bundled_weights_instead_of_step_1(place):
    found = [words for one in blocks("README.md") if one.language == "bash" for words in commands(one)]
    (words,) = [words for words in found if words[1] == "predict" and "--ckpt_path" in words and "HQ/" in words]
    words[words.index("--ckpt_path") + 1] = "blind_camera"
    run(words[1:])
    assert len(list((place / "pairs" / "lq").glob("*.png"))) == 5


def test_readme_lq_of_the_same_seed_is_the_same(place):
    run_until = [one for one in blocks("README.md") if one.language == "python"][0]
    names = training_loop()
    exec(run_until.text, names)
    hq = names["loader"][0]
    first, again, other = (names["degrade"](hq, seed=seed) for seed in (3, 3, 4))
    assert first.shape == (2, 3, 16, 24) and first.device == hq.device and 0 <= first.min() <= first.max() <= 1
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_run_or_listed(page):
    for block in blocks(page):
        assert block.language in ("bash", "python", "yaml", "text"), f"{page}:{block.line}: give the block a language"
        for words in commands(block) if block.language == "bash" else []:
            known = words[0] in PROGRAMS or reason_not_to_run(words) is not None
            assert known, f"{page}:{block.line}: {' '.join(words)} is neither run nor listed in NOT_RUN"


def test_every_listed_command_is_there():
    found = [words for page in PAGES for one in blocks(page) if one.language == "bash" for words in commands(one)]
    reasons = {reason_not_to_run(words) for words in found}
    assert reasons >= set(NOT_RUN.values())


@pytest.mark.parametrize("page", ["docs/scaling.md", "docs/wandb.md"])
def test_commands_that_are_not_run_are_parsed(page, place, capsys):
    for block in blocks(page):
        assert block.language != "bash" or subprocess.run(["bash", "-n"], input=block.text, text=True).returncode == 0
        for words in commands(block) if block.language == "bash" else []:
            script = next((n for n, word in enumerate(words) if word.startswith("launch/")), None)
            if script is not None:
                assert (ROOT / words[script]).is_file()
                run([*words[script + 1 :], "--print_config"])
                assert "class_path" in capsys.readouterr().out
            elif words[:2] == ["ddpm-pairs", "dashboard"]:
                _verb_parsers()["dashboard"].parse_args(words[2:])
            elif words[0] == "wandb":
                assert (ROOT / "configs" / words[-1]).is_file()


def test_options_named_in_the_text_exist():
    text = "".join(path.read_text("utf-8") for path in PAGES.values())
    named = set(re.findall(r"--((?:model|data)\.[a-z_0-9]+)", text))
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        from generate_options import options_page
    finally:
        sys.path.remove(str(ROOT / "docs"))
    known, prefix = {"data.hq_dir", "model.help"}, ""
    for line in options_page(ROOT).splitlines():
        if found := re.match(r"`ddpm_pairs\.[\w.]+`(?:, its options as `--(\w+)\.OPTION`)?$", line):
            prefix = found[1]
        elif prefix and (found := re.match(r"\| `(\w+)` \|", line)):
            known.add(f"{prefix}.{found[1]}")
    assert len(known) > 60
    assert named <= known, sorted(named - known)
