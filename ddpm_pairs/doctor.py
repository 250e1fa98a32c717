"""``ddpm-pairs doctor``: what is installed and found, and how to mend what is not right.

It imports nothing outside the standard library by itself: packages are imported in a child process, so that a broken
torch ends in a line of the report and not in a traceback.
"""

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ddpm_pairs import __version__, shipped

if TYPE_CHECKING:
    from packaging.requirements import Requirement

MALICIOUS = {"lightning": ("2.6.2", "2.6.3")}
"""Releases that carried a credential stealer (GHSA-w37p-236h-pfx3); they must never be imported."""

IMPORT_NAMES = {"opencv-python-headless": "cv2", "pillow": "PIL", "PyYAML": "yaml", "scikit-image": "skimage"}
"""Import names of the distributions whose import name is not their own with underscores."""

_PROBE = "import sys; from ddpm_pairs.doctor import probe; probe(sys.argv[1:])"
_QUIET = {"NO_ALBUMENTATIONS_UPDATE": "1", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        state: ``ok``; ``note`` for what may be as it is; ``problem`` for what must be mended.
        text: what was found.
        mend: for a problem, what to do.
    """

    state: Literal["ok", "note", "problem"]
    text: str
    mend: str = ""


def main(arguments: argparse.Namespace) -> int:
    """Print the report.

    Args:
        arguments: of the command line; the verb has none.

    Returns:
        0 where nothing must be mended, else 1.
    """
    print(f"ddpm_pairs {__version__} in {shipped.PACKAGE}")
    print(f"Python {platform.python_version()} at {sys.executable}")
    print(f"{platform.platform()}\n", flush=True)
    packages, devices = check_packages()
    sections = {
        "Packages": packages,
        "Devices": devices,
        "The command 'lightning'": check_command(),
        "Shipped with the package": check_shipped(),
        "Weights of metrics and losses": check_metric_weights(),
    }
    for title, findings in sections.items():
        print(title)
        for finding in findings:
            print(f"  {finding.state:<8} {finding.text}")
        print()
    mends = [finding.mend for findings in sections.values() for finding in findings if finding.state == "problem"]
    if not mends:
        print("Nothing to mend.")
        return 0
    print("To mend:")
    for mend in dict.fromkeys(mends):
        print(f"  * {mend}")
    return 1


def check_packages() -> tuple[list[Finding], list[Finding]]:
    """Compare what is installed with the requirements, import it, and look at the devices.

    Returns:
        The findings on packages, one a requirement, and those on devices.
    """
    no_devices = [_cpu(), Finding("note", "accelerators unknown, since torch was not imported")]
    try:
        requirements = _requirements()
    except importlib.metadata.PackageNotFoundError:
        mend = "install the package: python -m pip install -e ."
        return [Finding("problem", "ddpm_pairs itself is not installed, nothing was compared", mend)], no_devices
    except ModuleNotFoundError:
        mend = "install the requirements: python -m pip install -r requirements.txt"
        return [Finding("problem", "packaging is not installed, so nothing was compared", mend)], no_devices
    findings = {requirement.name: check_version(requirement) for requirement in requirements}
    malicious = [name for name, versions in MALICIOUS.items() if _version(name) in versions]
    if malicious:
        text = f"no package was imported, because {malicious[0]} {_version(malicious[0])} is malicious"
        return [*findings.values(), Finding("note", text)], no_devices

    imports = import_in_child([name for name in findings if _version(name) is not None])
    for requirement in requirements:
        error = imports.get(requirement.name, {}).get("error")
        if error is not None:
            text = f"{requirement.name} {_version(requirement.name)} cannot be imported: {error}"
            findings[requirement.name] = Finding("problem", text, _mend_import(requirement, error, requirements))
    accelerators = imports.get("torch", {}).get("accelerators")
    if accelerators is None:
        return list(findings.values()), no_devices
    devices = [Finding("ok", name) for name in accelerators] or [Finding("note", "no accelerator that torch can use")]
    return list(findings.values()), [_cpu(), *devices]


def check_version(requirement: "Requirement") -> Finding:
    """Compare an installed version with a requirement, without importing the package."""
    installed = _version(requirement.name)
    wanted = str(requirement.specifier) or "any version"
    install = f"python -m pip install '{requirement}'"
    if installed is None:
        return Finding("problem", f"{requirement.name} is not installed ({wanted})", install)
    if installed in MALICIOUS.get(requirement.name, ()):
        return Finding(
            "problem",
            f"{requirement.name} {installed} is a MALICIOUS release that steals credentials (GHSA-w37p-236h-pfx3)",
            f"{install}, and change every password, key and token that this machine could read",
        )
    if not requirement.specifier.contains(installed, prereleases=True):
        return Finding("problem", f"{requirement.name} {installed} does not fit {wanted}", install)
    return Finding("ok", f"{requirement.name} {installed} ({wanted})")


def import_in_child(names: list[str]) -> dict[str, dict]:
    """Import distributions one after the other in a child process.

    A package that ends the process is blamed for it, and a further child goes on with those after it.

    Args:
        names: of distributions, as in the requirements.

    Returns:
        For each name ``{"error": str | None}``, a line that says why the import failed; torch has ``accelerators`` too,
        a list of str.
    """
    results: dict[str, dict] = {}
    while remaining := [name for name in names if name not in results]:
        # stderr is of no interest: packages warn there while they are imported.
        child = subprocess.run(
            [sys.executable, "-c", _PROBE, *remaining], env={**os.environ, **_QUIET}, capture_output=True, text=True
        )
        lines = [line.removeprefix("probed ") for line in child.stdout.splitlines() if line.startswith("probed ")]
        results.update({name: result for line in lines for name, result in json.loads(line).items()})
        lost = [name for name in remaining if name not in results]
        if lost:
            results[lost[0]] = {"error": f"Python ended with status {child.returncode}"}
    return results


def probe(names: list[str]) -> None:
    """Import distributions and print one line ``probed {name: result}`` each; the child of :func:`import_in_child`."""
    for name in names:
        result: dict = {"error": None}
        try:
            importlib.import_module(IMPORT_NAMES.get(name, name.replace("-", "_")))
            if name == "torch":
                result["accelerators"] = _accelerators()
        except Exception as error:  # whatever a broken package raises is what is asked for here
            result["error"] = f"{type(error).__name__}: {' '.join(str(error).split())}"
        print(f"\nprobed {json.dumps({name: result})}", flush=True)


def check_command() -> list[Finding]:
    """Find out who owns the script ``lightning``: the last one installed of those that claim the name."""
    scripts = importlib.metadata.entry_points(group="console_scripts", name="lightning")
    rivals = sorted({script.dist.name for script in scripts if script.dist is not None} - {"ddpm_pairs"})
    findings = [
        Finding("note", f"{rival} claims the name as well; uninstalling either package deletes the script")
        for rival in rivals
    ]
    mend = f"take the name back: {_reinstall_command()} ('ddpm-pairs' works all the same)"
    ours = _installed_script()
    if ours is not None and not ours.exists():
        findings.append(Finding("problem", f"{ours} has been deleted", mend))
    on_path = shutil.which("lightning")
    candidates = [ours, Path(on_path).resolve() if on_path else None]
    for path in dict.fromkeys(path for path in candidates if path is not None and path.exists()):
        owner = script_owner(path)
        if owner == "ddpm_pairs":
            findings.append(Finding("ok", f"{path} is ours"))
        elif owner is None:
            findings.append(
                Finding("note", f"{path} does not show whose it is; 'lightning --version' should say ddpm_pairs")
            )
        else:
            findings.append(Finding("problem", f"{path} belongs to {owner}, not to ddpm_pairs", mend))
    if on_path is None:
        findings.append(Finding("note", "no 'lightning' on PATH; activate the environment or type the path in full"))
    return findings


def script_owner(path: Path) -> str | None:
    """The package that a console script imports; None where it shows none (a shim, a binary launcher)."""
    match = re.search(r"^\s*from (\w+)", path.read_text(encoding="utf-8", errors="replace"), flags=re.MULTILINE)
    return match[1] if match else None


def check_shipped() -> list[Finding]:
    """List the embedded DDPMs and count the configs."""
    configs, weights = shipped.config_names(), shipped.weights_names()
    mend = f"install the package again: {_reinstall_command()}"
    return [
        Finding("ok", f"{len(configs)} configs in {shipped.configs_folder()}")
        if configs
        else Finding("problem", f"no configs in {shipped.configs_folder()}", mend),
        Finding("ok", f"embedded DDPMs: {', '.join(weights)}")
        if weights
        else Finding("note", f"no embedded DDPM in {shipped.ASSETS}"),
    ]


def check_metric_weights() -> list[Finding]:
    """Look for the weights of metrics and losses where those look."""
    from ddpm_pairs import weights

    findings = []
    own_folder = os.environ.get("DDPM_PAIRS_WEIGHTS")
    if own_folder and not Path(own_folder).is_dir():
        mend = "point $DDPM_PAIRS_WEIGHTS at an existing folder, or unset it"
        findings.append(Finding("problem", f"$DDPM_PAIRS_WEIGHTS is {own_folder}, which is no folder", mend))
    places = " or ".join(str(folder) for folder in weights.weights_folders())
    for file in (weights.INCEPTION, weights.ALEXNET, weights.VGG19):
        found = weights.find_weights(file)
        findings.append(
            Finding("ok", f"{file.network}: {found}")
            if found
            else Finding("note", f"{file.network}: no {file.patterns[0]} in {places}; downloaded when needed")
        )
    return findings


def _requirements() -> "list[Requirement]":
    """What the package needs without any extra, from its installed metadata."""
    from packaging.requirements import Requirement

    parsed = [Requirement(line) for line in importlib.metadata.requires("ddpm_pairs") or []]
    return [entry for entry in parsed if entry.marker is None or entry.marker.evaluate({"extra": ""})]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _mend_import(requirement: "Requirement", error: str, requirements: "list[Requirement]") -> str:
    if "torchvision::nms" in error:
        pair = " ".join(f"'{entry}'" for entry in requirements if entry.name in ("torch", "torchvision"))
        return (
            "torch and torchvision are different builds (such as a CPU-only torch beside PyPI's torchvision); "
            f"take both from one place: python -m pip install --force-reinstall {pair}"
        )
    return f"install it again: python -m pip install --force-reinstall '{requirement}'"


def _cpu() -> Finding:
    return Finding("ok", f"CPU with {os.cpu_count()} threads")


def _accelerators() -> list[str]:
    """Names of the devices that torch can use beside the CPU; runs in the child."""
    import torch

    names = []
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        names.append(f"cuda:{index} {device.name}, {device.total_memory / 2**30:.0f} GiB")
    return [*names, "mps"] if torch.backends.mps.is_available() else names


def _installed_script() -> Path | None:
    """Where installing ddpm_pairs put the script ``lightning``; None where that is not recorded."""
    try:
        files = importlib.metadata.files("ddpm_pairs") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    scripts = [file for file in files if file.name in ("lightning", "lightning.exe")]
    return Path(scripts[0].locate()).resolve() if scripts else None


def _reinstall_command() -> str:
    """The command that writes our scripts again: from the place that the package was installed from."""
    command = "python -m pip install --force-reinstall --no-deps"
    try:
        record = importlib.metadata.distribution("ddpm_pairs").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        record = None
    if record is None:
        return f"{command} ddpm_pairs"
    origin = json.loads(record)
    editable = "-e " if origin.get("dir_info", {}).get("editable") else ""
    vcs = f"{origin['vcs_info']['vcs']}+" if "vcs_info" in origin else ""
    return f"{command} {editable}{vcs}{origin['url']}"
