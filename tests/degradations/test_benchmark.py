import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "degradations.py"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read as Linux tells it")
def test_benchmark_prints_a_row_for_each_model_and_size():
    options = ["--models", "bicubic", "bsrgan", "--sizes", "64", "96", "--batches", "1", "--rounds", "1"]
    done = subprocess.run([sys.executable, BENCHMARK, *options], capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[:2] for row in rows[2:]] == [["bicubic", "64"], ["bicubic", "96"], ["bsrgan", "64"], ["bsrgan", "96"]]
    assert len({len(row) for row in rows}) == 1
    assert all(float(cell) >= 0 for row in rows[2:] for cell in row[2:])
