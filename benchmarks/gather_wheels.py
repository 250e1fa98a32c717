"""Gather the wheels that `benchmarks/gpu.sh` installs on a machine that has torch but no network.

What ddpm_pairs and its tests need is resolved by pip for that machine's Python; what `preinstalled.txt` names is left
out, and the rest is downloaded. `make wheels` fills `wheels/`.

    python benchmarks/gather_wheels.py --output_dir wheels
    WHEELS=wheels benchmarks/gpu.sh        # there
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PREINSTALLED = Path(__file__).with_name("preinstalled.txt")
EXTRAS = ("denoising-diffusion-pytorch", "lmdb", "spandrel", "webdataset")
"""What tests and benchmarks need besides `requirements.txt`."""

NOT_NEEDED = ("wandb",)
"""Requirements that no part of the report uses: 20 MiB, and as many packages as the rest."""

PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(39, 4, -1)] + [
    "manylinux2014_x86_64",
    "manylinux1_x86_64",
]
"""pip takes wheels of exactly these."""


def main() -> int:
    """Read the command line, resolve, download and weigh.

    Returns:
        0, or 1 if the wheels are larger than the limit.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("wheels"), help="folder to fill (default: wheels)")
    parser.add_argument("--python", default="3.12", help="version of the machine's Python (default: 3.12)")
    parser.add_argument("--limit", type=float, default=40, help="MiB that they may have together (default: 40)")
    arguments = parser.parse_args()
    there = dict(line.split("==") if "==" in line else (line, None) for line in read_list(PREINSTALLED))
    wanted = missing(resolve(arguments.python, there), there)
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    for old in arguments.output_dir.glob("*.whl"):
        old.unlink()
    pins = [f"{name}=={version}" for name, version in sorted(wanted.items())]
    pip("download", "--no-deps", *target(arguments.python), "--dest", str(arguments.output_dir), *pins)
    wheels = sorted(arguments.output_dir.glob("*.whl"))
    size = sum(path.stat().st_size for path in wheels) / 2**20
    print(f"{arguments.output_dir}: {len(wheels)} wheels, {size:.1f} MiB")
    if size > arguments.limit:
        print(f"that is more than {arguments.limit:g} MiB", file=sys.stderr)
        return 1
    return 0


def resolve(python: str, there: dict[str, str | None]) -> dict[str, str]:
    """Versions by name of all that would be installed on that machine.

    Args:
        python: Its version of Python.
        there: What is installed, with the version where that matters.
    """
    constraints = "\n".join(f"{name}=={version}" for name, version in there.items() if version is not None)
    with tempfile.TemporaryDirectory() as folder:
        report, pinned, needed = (Path(folder) / name for name in ("report.json", "constraints.txt", "needed.txt"))
        pinned.write_text(constraints)
        lines = [line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
        needed.write_text("\n".join(line for line in lines if line not in NOT_NEEDED))
        options = ["--dry-run", "--ignore-installed", "--target", f"{folder}/x", "--report", str(report)]
        requirements = ["--constraint", str(pinned), "--requirement", str(needed), *EXTRAS]
        pip("install", *options, *target(python), *requirements)
        found = json.loads(report.read_text())["install"]
    return {normalized(one["metadata"]["name"]): one["metadata"]["version"] for one in found}


def missing(resolved: dict[str, str], there: dict[str, str | None]) -> dict[str, str]:
    """What of the resolved packages is to be carried."""
    return {name: version for name, version in resolved.items() if name not in there}


def read_list(path: Path) -> list[str]:
    """The entries of a list with comments, names normalized."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [normalized(line) for line in lines if line]


def normalized(name: str) -> str:
    """A package's name as indexes compare it; a version behind ``==`` stays."""
    name, equal, version = name.partition("==")
    return re.sub(r"[-_.]+", "-", name).lower() + equal + version


def target(python: str) -> list[str]:
    """Options by which pip works for the machine instead of this one."""
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    return ["--only-binary=:all:", "--implementation", "cp", "--python-version", python, *platforms]


def pip(*words: str) -> None:
    """Run this environment's pip."""
    subprocess.run([sys.executable, "-m", "pip", words[0], "--quiet", *words[1:]], check=True)


if __name__ == "__main__":
    sys.exit(main())
