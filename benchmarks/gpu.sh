#!/usr/bin/env bash
# Run all GPU tests and benchmarks in under eight minutes and write one Markdown report.
#
#   benchmarks/gpu.sh                  run on a GPU; writes gpu_report/gpu.md and gpu_report/gpu.log
#   benchmarks/gpu.sh --rehearse       check that all parts run, on a CPU with tiny sizes
#   benchmarks/gpu.sh --help           list the parts and the options that select them
#
# Environment variables:
#   PYTHON   Python with torch (default: python3)
#   OUT      folder of the report (default: gpu_report)
#   WHEELS   folder of wheels to install first, downloaded elsewhere by `make wheels`, for a machine with torch but
#            without a network. They are installed into a temporary folder; installed packages are not changed.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
export PYTHONUNBUFFERED=1

if [[ -n ${WHEELS:-} ]]; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    # Two steps, because only the package itself is built from source. Neither installs requirements: those without a
    # wheel are already installed.
    pip=("$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-compile --target "$site")
    "${pip[@]}" "$WHEELS"/*.whl
    "${pip[@]}" --no-build-isolation --upgrade .
    export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
fi

"$python" benchmarks/gpu_report.py --output_dir "${OUT:-gpu_report}" "$@"
