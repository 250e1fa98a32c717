"""Report the precision in which the network runs on each device, and its speed in fp32 and bf16, as advice."""

import json
import os
import subprocess
import sys

from ddpm_pairs.cli.doctor.finding import Finding

_PROBE = "from ddpm_pairs.cli.doctor.precision import probe; probe()"
_TIMEOUT = 120  # seconds


def check_precision(packages_fit: bool) -> list[Finding]:
    """Time the bundled DDPM in a child process, so that a broken torch becomes a line of the report.

    Args:
        packages_fit: Whether all packages can be imported; if not, nothing is measured.
    """
    if not packages_fit:
        return [Finding("note", "precision was not measured, because packages are missing or broken")]
    try:
        child = subprocess.run(
            [sys.executable, "-c", _PROBE],
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
        )
        lines = [line for line in child.stdout.splitlines() if line.startswith("{")]
    except subprocess.TimeoutExpired:
        lines = []
    if not lines:
        return [Finding("note", "precision was not measured, because the network failed to run")]
    return [_finding(**json.loads(line)) for line in lines]


def _finding(device: str, native: str, fp32: float, bf16: float) -> Finding:
    text = f"{device}: predict uses {native}; an evaluation takes {fp32:.1f} ms in fp32, {bf16:.1f} ms in bf16"
    faster = "fp32" if fp32 < bf16 else "bf16"
    if faster != native and max(fp32, bf16) > 1.3 * min(fp32, bf16):
        return Finding("note", f"{text}; try --model.precision {faster}")
    return Finding("ok", text)


def probe() -> None:
    """Print one line of JSON per device; runs in the child of ``check_precision``."""
    import torch

    from ddpm_pairs.diffusion.loading import load_denoiser
    from ddpm_pairs.diffusion.runtime.runtime import native_precision
    from ddpm_pairs.diffusion.runtime.stopwatch import measure_precisions
    from ddpm_pairs.shipped import weights_file, weights_names

    denoiser = load_denoiser(weights_file(weights_names()[0]))
    devices = [torch.device("cpu"), *(torch.device("cuda", n) for n in range(torch.cuda.device_count()))]
    for device in devices:
        measured = measure_precisions(denoiser, 2, device)
        print(json.dumps({"device": str(device), "native": native_precision(device), **measured}), flush=True)
