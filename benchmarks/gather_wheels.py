"""Download the wheels that `benchmarks/gpu.sh` installs on a machine with torch but without a network.

pip resolves the requirements of ddpm_pairs and its tests for that machine's Python. Packages listed in
`preinstalled.txt` are skipped, and all others are downloaded. `make wheels` fills `wheels/`.

    python benchmarks/gather_wheels.py --output_dir wheels
    WHEELS=wheels benchmarks/gpu.sh        # on the other machine
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
"""Requirements of tests and benchmarks besides `requirements.txt`."""

NOT_NEEDED = ("wandb",)
"""Requirements that no part of the report uses; they would add 20 MiB and double the number of packages."""

PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(39, 4, -1)] + [
    "manylinux2014_x86_64",
    "manylinux1_x86_64",
]
"""Platforms of the wheels; pip accepts only exact matches."""


def main() -> int:
    """Read the command line, resolve, download, and check the size.

    Returns:
        0, or 1 if the wheels exceed the limit.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("wheels"), help="output folder (default: wheels)")
    parser.add_argument("--python", default="3.12", help="version of the machine's Python (default: 3.12)")
    parser.add_argument("--limit", type=float, default=40, help="maximum total size in MiB (default: 40)")
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
        print(f"the wheels exceed --limit {arguments.limit:g} MiB", file=sys.stderr)
        return 1
    return 0


def resolve(python: str, there: dict[str, str | None]) -> dict[str, str]:
    """Return name and version of each package that pip would install on the machine.

    Args:
        python: The machine's version of Python.
        there: Installed packages, with the version if it matters.
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
    """Return the resolved packages that are not installed yet."""
    return {name: version for name, version in resolved.items() if name not in there}


def read_list(path: Path) -> list[str]:
    """Read the entries of a list with comments, with normalized names."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [normalized(line) for line in lines if line]


def normalized(name: str) -> str:
    """Normalize a package's name as package indexes do; a version after ``==`` is unchanged."""
    name, equal, version = name.partition("==")
    return re.sub(r"[-_.]+", "-", name).lower() + equal + version


def target(python: str) -> list[str]:
    """Return the options that make pip resolve for the other machine."""
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    return ["--only-binary=:all:", "--implementation", "cp", "--python-version", python, *platforms]


def pip(*words: str) -> None:
    """Run this environment's pip."""
    subprocess.run([sys.executable, "-m", "pip", words[0], "--quiet", *words[1:]], check=True)


if __name__ == "__main__":
    sys.exit(main())
