#!/usr/bin/env bash
# Measure coft on the GPU of this machine, in under eight minutes, and print one table.
#     tests/bench/gpu.sh [--images cifar10.parquet] [--json FILE]
#     tests/bench/gpu.sh --device cpu --quick      tries the script; its numbers mean nothing
# Runs with the Python of a bundle (see `make bundle`), else of .venv, else COFT_PYTHON or python3 of
# the PATH, which then needs coft's libraries. Exit code 2: there is no GPU; 1: a row has no number.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."

python=${COFT_PYTHON:-python3}
[ ! -x .venv/bin/python ] || python=.venv/bin/python
[ ! -x ../bin/coft-python ] || python=../bin/coft-python
exec env PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" "$python" -m tests.bench.gpu "$@"
