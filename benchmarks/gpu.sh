#!/usr/bin/env bash
# Everything that only a GPU can tell, as one Markdown file, in under eight minutes.
#
#   benchmarks/gpu.sh                  on a machine with a GPU; writes gpu_report/gpu.md and gpu_report/gpu.log
#   benchmarks/gpu.sh --rehearse       all of it on a CPU with tiny sizes, to see that it runs
#   benchmarks/gpu.sh --help           the parts, and how to choose among them
#
# Read from the environment:
#   PYTHON   the Python that has torch (python3)
#   OUT      folder of the report (gpu_report)
#   WHEELS   folder of wheels, gathered elsewhere by `make wheels`, to install before the start: for a machine that has
#            torch but no network. They go to a temporary folder; what the machine has installed stays as it is.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
export PYTHONUNBUFFERED=1

if [[ -n ${WHEELS:-} ]]; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    # In two steps, because only the package itself is built from source. Both without their requirements: those that
    # no wheel was gathered for are installed already.
    pip=("$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-compile --target "$site")
    "${pip[@]}" "$WHEELS"/*.whl
    "${pip[@]}" --no-build-isolation --upgrade .
    export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
fi

"$python" benchmarks/gpu_report.py --output_dir "${OUT:-gpu_report}" "$@"
