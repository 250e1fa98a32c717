"""Compare the installed packages with the requirements, and list the devices that torch finds.

Packages are imported in a child process, so that a broken torch becomes a line of the report instead of a traceback.
"""

import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from ddpm_pairs.cli.doctor.finding import Finding

if TYPE_CHECKING:
    from packaging.requirements import Requirement

MALICIOUS = {"lightning": ("2.6.2", "2.6.3")}
"""Releases that contained a credential stealer (GHSA-w37p-236h-pfx3); they must never be imported."""

IMPORT_NAMES = {"opencv-python-headless": "cv2", "pillow": "PIL", "PyYAML": "yaml", "scikit-image": "skimage"}
"""Import names of distributions whose import name is not simply their name with underscores."""

_PROBE = "import sys; from ddpm_pairs.cli.doctor.packages import probe; probe(sys.argv[1:])"
_QUIET = {"NO_ALBUMENTATIONS_UPDATE": "1", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}


def check_packages() -> tuple[list[Finding], list[Finding]]:
    """Compare the installed packages with the requirements, import them, and list the devices.

    Returns:
        The findings on packages, one per requirement, and those on devices.
    """
    no_devices = [_cpu(), Finding("note", "accelerators unknown, because torch was not imported")]
    try:
        requirements = _requirements()
    except importlib.metadata.PackageNotFoundError:
        mend = "install the package: python -m pip install -e ."
        return [Finding("problem", "ddpm_pairs itself is not installed, so nothing was compared", mend)], no_devices
    except ModuleNotFoundError:
        mend = "install the requirements: python -m pip install -r requirements.txt"
        return [Finding("problem", "packaging is not installed, so nothing was compared", mend)], no_devices
    findings = {requirement.name: check_version(requirement) for requirement in requirements}
    malicious = [name for name, versions in MALICIOUS.items() if _version(name) in versions]
    if malicious:
        text = f"no package was imported, because {malicious[0]} {_version(malicious[0])} is malicious"
        mend = findings[malicious[0]].mend if malicious[0] in findings else f"python -m pip uninstall {malicious[0]}"
        return [*findings.values(), Finding("problem", text, mend)], no_devices

    imports = import_in_child([name for name in findings if _version(name) is not None])
    for requirement in requirements:
        error = imports.get(requirement.name, {}).get("error")
        if error is not None:
            text = f"{requirement.name} {_version(requirement.name)} cannot be imported: {error}"
            findings[requirement.name] = Finding("problem", text, _mend_import(requirement, error, requirements))
    accelerators = imports.get("torch", {}).get("accelerators")
    if accelerators is None:
        return list(findings.values()), no_devices
    devices = [Finding("ok", name) for name in accelerators] or [Finding("note", "torch finds no accelerator")]
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
        return Finding("problem", f"{requirement.name} {installed} does not satisfy {wanted}", install)
    return Finding("ok", f"{requirement.name} {installed} ({wanted})")


def import_in_child(names: list[str]) -> dict[str, dict]:
    """Import distributions one by one in a child process.

    If a package ends the process, its import counts as failed, and another child continues with the next package.

    Args:
        names: Names of distributions, as in the requirements.

    Returns:
        For each name ``{"error": str | None}``, the reason in one line if the import failed; torch also has
        ``accelerators``, a list of str.
    """
    results: dict[str, dict] = {}
    while remaining := [name for name in names if name not in results]:
        # stderr contains only warnings of the imports.
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
    """Import distributions and print a line ``probed {name: result}`` for each, in the child of ``import_in_child``."""
    for name in names:
        result: dict = {"error": None}
        try:
            importlib.import_module(IMPORT_NAMES.get(name, name.replace("-", "_")))
            if name == "torch":
                result["accelerators"] = _accelerators()
        except Exception as error:  # a broken package may raise anything
            result["error"] = f"{type(error).__name__}: {' '.join(str(error).split())}"
        print(f"\nprobed {json.dumps({name: result})}", flush=True)


def _requirements() -> "list[Requirement]":
    """Return the requirements of the package without extras, from its installed metadata."""
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
            "torch and torchvision are different builds (such as a CPU-only torch with PyPI's torchvision); "
            f"install both from one source: python -m pip install --force-reinstall {pair}"
        )
    return f"reinstall it: python -m pip install --force-reinstall '{requirement}'"


def _cpu() -> Finding:
    return Finding("ok", f"CPU with {os.cpu_count()} threads")


def _accelerators() -> list[str]:
    """Return the names of the devices besides the CPU that torch can use; runs in the child."""
    import torch

    names = []
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        names.append(f"cuda:{index} {device.name}, {device.total_memory / 2**30:.0f} GiB")
    return [*names, "mps"] if torch.backends.mps.is_available() else names
