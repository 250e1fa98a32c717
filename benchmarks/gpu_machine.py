"""Describe the machine of a GPU report: device, driver, versions, and upper bounds of its speed.

Prints two Markdown tables. `benchmarks/synthesis.py` uses the same bound of a matrix product.

    python benchmarks/gpu_machine.py
"""

import importlib.metadata
import platform
import shutil
import subprocess
from functools import partial

import torch
from machine import DTYPES, describe, flops_a_second, table_row, timed

PACKAGES = (
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "diffusers",
    "kornia",
    "numpy",
    "opencv-python-headless",
)
TRIALS = 5


def main() -> None:
    """Measure and print."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"{describe(device, torch.get_num_threads())}\n")
    rows = [("Python", platform.python_version()), *((name, _version(name)) for name in PACKAGES)]
    rows += [("cuDNN", torch.backends.cudnn.version()), ("driver", _driver()), ("GPUs", torch.cuda.device_count())]
    _print_table(("component", "version or number"), rows)
    print()
    bounds = [(f"matrix product in {name}, TFLOP/s", f"{rate / 1e12:.3g}") for name, rate in _products(device).items()]
    bounds.append(("copy on the device, read and written, GB/s", f"{_copied(device) / 1e9:.4g}"))
    if device.type == "cuda":
        bounds.append(("memory, GiB", f"{torch.cuda.get_device_properties(device).total_memory / 2**30:.1f}"))
    _print_table(("bound", "measured"), bounds)


def _products(device: torch.device) -> dict[str, float]:
    """Return floating-point operations per second of a large matrix product, by precision."""
    return {name: flops_a_second(device, (name,))[0] for name in DTYPES}


def _copied(device: torch.device) -> float:
    """Return the bytes per second that a copy reads and writes."""
    source = torch.randint(0, 255, (2**31 if device.type == "cuda" else 2**24,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = partial(target.copy_, source)
    copy()
    return 2 * len(source) / min(timed(copy, device) for _ in range(TRIALS))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "-"


def _driver() -> str:
    if shutil.which("nvidia-smi") is None:
        return "-"
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    lines = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.split()
    return lines[0] if lines else "-"


def _print_table(header: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    print(table_row(header) + "\n|" + " --- |" * len(header))
    print("\n".join(table_row(row) for row in rows), flush=True)


if __name__ == "__main__":
    main()
