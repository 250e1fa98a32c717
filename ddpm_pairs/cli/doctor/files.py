"""Check the configs and bundled DDPMs of the package, shared memory, and the weights of metrics and losses."""

import os
import shutil
from pathlib import Path

from ddpm_pairs import shipped
from ddpm_pairs.cli.doctor.command import reinstall_command
from ddpm_pairs.cli.doctor.finding import Finding

SHARED_MEMORY = Path("/dev/shm")

ENOUGH_SHARED_MEMORY = 1.1
"""GB below which the loader processes avoid it; see ``ddpm_pairs.data.workers``."""


def check_shipped() -> list[Finding]:
    """List the bundled DDPMs and count the configs."""
    configs, weights = shipped.config_names(), shipped.weights_names()
    mend = f"reinstall the package: {reinstall_command()}"
    return [
        Finding("ok", f"{len(configs)} configs in {shipped.configs_folder()}")
        if configs
        else Finding("problem", f"no configs in {shipped.configs_folder()}", mend),
        Finding("ok", f"bundled DDPMs: {', '.join(weights)}")
        if weights
        else Finding("note", f"no bundled DDPM in {shipped.ASSETS}"),
    ]


def check_shared_memory() -> list[Finding]:
    """Look for little shared memory, such as Docker's default of 64 MB; there is no finding if it is not a folder."""
    if not SHARED_MEMORY.is_dir():
        return []
    free = shutil.disk_usage(SHARED_MEMORY).free / 1e9
    if free < ENOUGH_SHARED_MEMORY:
        text = f"{SHARED_MEMORY}: {free:.2f} GB free; loader processes send images in a slower way"
        return [Finding("note", f"{text} (in Docker, use --shm-size 2g)")]
    return [Finding("ok", f"{SHARED_MEMORY}: {free:.1f} GB free for the loader processes")]


def check_metric_weights() -> list[Finding]:
    """Look for the weights of metrics and losses in their search folders."""
    from ddpm_pairs.metrics import weights

    findings = []
    own_folder = os.environ.get("DDPM_PAIRS_WEIGHTS")
    if own_folder and not Path(own_folder).is_dir():
        mend = "point $DDPM_PAIRS_WEIGHTS at an existing folder, or unset it"
        findings.append(Finding("problem", f"$DDPM_PAIRS_WEIGHTS: got {own_folder}; expected an existing folder", mend))
    places = " or ".join(str(folder) for folder in weights.weights_folders())
    for file in (weights.INCEPTION, weights.ALEXNET, weights.VGG19):
        found = weights.find_weights(file)
        findings.append(
            Finding("ok", f"{file.network}: {found}")
            if found
            else Finding("note", f"{file.network}: no {file.patterns[0]} in {places}; it is downloaded when needed")
        )
    return findings
