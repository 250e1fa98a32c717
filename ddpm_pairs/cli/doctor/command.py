"""Find out which package owns the command ``lightning``, and how to reinstall ours."""

import importlib.metadata
import json
import re
import shutil
from pathlib import Path

from ddpm_pairs.cli.doctor.finding import Finding


def check_command() -> list[Finding]:
    """Find out who owns the script ``lightning``: of the packages that provide it, the one installed last."""
    scripts = importlib.metadata.entry_points(group="console_scripts", name="lightning")
    rivals = sorted({script.dist.name for script in scripts if script.dist is not None} - {"ddpm_pairs"})
    findings = [
        Finding("note", f"{rival} provides this command too; uninstalling either package deletes the script")
        for rival in rivals
    ]
    mend = f"get the command back: {reinstall_command()} ('ddpm-pairs' works without it)"
    ours = _installed_script()
    if ours is not None and not ours.exists():
        findings.append(Finding("problem", f"{ours} has been deleted", mend))
    on_path = shutil.which("lightning")
    candidates = [ours, Path(on_path).resolve() if on_path else None]
    for path in dict.fromkeys(path for path in candidates if path is not None and path.exists()):
        owner = script_owner(path)
        if owner == "ddpm_pairs":
            findings.append(Finding("ok", f"{path} belongs to ddpm_pairs"))
        elif owner is None:
            findings.append(
                Finding("note", f"{path} does not show its package; 'lightning --version' should print ddpm_pairs")
            )
        else:
            findings.append(Finding("problem", f"{path} belongs to {owner}, not to ddpm_pairs", mend))
    if on_path is None:
        findings.append(Finding("note", "'lightning' is not on PATH; activate the environment or type the full path"))
    return findings


def script_owner(path: Path) -> str | None:
    """Return the package that a console script imports; ``None`` if it shows none (a shim, a binary launcher)."""
    match = re.search(r"^\s*from (\w+)", path.read_text(encoding="utf-8", errors="replace"), flags=re.MULTILINE)
    return match[1] if match else None


def reinstall_command() -> str:
    """Return the command that reinstalls our scripts from the source that the package was installed from."""
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


def _installed_script() -> Path | None:
    """Return the path of the script ``lightning`` that ddpm_pairs installed; ``None`` if it is not recorded."""
    try:
        files = importlib.metadata.files("ddpm_pairs") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    scripts = [file for file in files if file.name in ("lightning", "lightning.exe")]
    return Path(scripts[0].locate()).resolve() if scripts else None
