"""The pages of the documentation, their fenced blocks, and tiny forms of the commands in them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_FILES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PAGES = {path.relative_to(ROOT).as_posix(): path for path in _FILES}
PROGRAMS = ("lightning", "ddpm-pairs")

NOT_RUN = {
    "pip install": "changes the environment; tests/test_packaging.py installs the wheel",
    "launch/torchrun.sh": "starts processes; tests/launch runs the script, here its arguments are parsed",
    "sbatch": "needs SLURM; tests/launch checks the script, here its arguments are parsed",
    "wandb sweep": "needs an account; tests/test_sweep.py runs what an agent runs",
    "ddpm-pairs dashboard": "needs an account, unless --dry-run is given; here its arguments are parsed",
}
"""Commands that no test can run as they are, with the reason."""


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: The page's path in the repository.
        line: Line of its fence.
        language: The word after the fence.
        text: What is between the fences.
    """

    page: str
    line: int
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The name of the file that the block is, if its first line says so: ``# name.py``."""
        found = re.match(r"# (\w+\.(?:py|yaml))\n", self.text)
        return found[1] if found else None


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = PAGES[page].read_text("utf-8")
    found = re.finditer(r"^```(\w*)[^\n]*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [Block(page, text[: one.start()].count("\n") + 1, one[1], one[2]) for one in found]


def commands(block: Block) -> list[list[str]]:
    """The words of each command of a bash block, without variables set before it."""
    lines = block.text.replace("\\\n", " ").splitlines()
    found = filter(None, (shlex.split(line, comments=True) for line in lines))
    return [words[next(n for n, word in enumerate(words) if not re.match(r"[A-Z_]+=", word)) :] for words in found]


def reason_not_to_run(words: list[str]) -> str | None:
    """Why a command is not run; None for one that is."""
    if "--dry-run" in words:
        return None
    text = " ".join(words)
    return next((why for start, why in NOT_RUN.items() if text.startswith(start)), None)


def tiny(words: list[str]) -> list[str]:
    """What makes a command of ours small: toy networks, two steps, small crops, random feature networks, the CPU.

    Args:
        words: The command without the program's name.

    Returns:
        Words to add to it.
    """
    verb = words[0]
    configs = [value for option, value in zip(words, words[1:], strict=False) if option == "--config"]
    main = configs[0].removesuffix(".yaml") if configs else ""
    if {"--help", "--model.help", "--print_config"} & set(words):
        return []
    if verb == "preview":
        return ["--pictures", "1", "--draws", "2"]
    if verb == "pools":
        return ["--kernels", "1", "--iterations", "150", "--workers", "1"]
    if verb == "score":
        return ["--metrics", "psnr,ssim"]
    if verb not in ("fit", "test", "predict"):
        return []
    added = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--data.num_workers", "0"]
    if verb == "fit":
        added += ["--trainer.max_steps", "2", "--trainer.enable_model_summary", "false"]
        overlays = [name for name in _overlays(main) if name not in configs]
        added += [word for name in overlays for word in ("--config", name)]
        added += ["--trainer.val_check_interval", "2"] if main else ["--trainer.limit_val_batches", "0"]
        added += ["--trainer.log_every_n_steps", "1"] + ([] if main else ["--data.batch_size", "2"])
        added += ["--data.crop_size", "64"] if "--data.crop_size" in words else []
    elif main in ("ablation", "table3"):
        added += ["--model.features", "random", "--model.pictures", "4", "--model.patch", "32", "--model.ts", "[0, 50]"]
        added += ["--model.threads", "1"]
    elif verb == "predict" and main.startswith("pairs"):
        added += ["--model.threads", "1", "--model.precision", "fp32"]
    elif verb == "test":
        added += [word for name in _overlays(main) for word in ("--config", name)]
    return added


def _overlays(config: str) -> list[str]:
    if config.startswith("noise_da"):
        return [f"parts/debug_noise_da_{'rrdb' if 'rrdb' in config else 'unet'}.yaml"]
    family = config.split("_")[0]
    learned = dict.fromkeys(("dsgan", "dasr", "pdm"), ["debug_gan"]) | {"redegnet": ["debug_redegnet"]}
    baselines = {"align": ["debug_rrdb", "debug_align"], "consistency": ["debug_rrdb"]}
    names = {"ddpm": ["debug"], "gpen": ["debug_gpen"], "rrdb": ["debug_rrdb"], "": [], **learned, **baselines}[family]
    return [f"parts/{name}.yaml" for name in names + (["debug_rrdb_gan"] if config == "rrdb_gan" else [])]
