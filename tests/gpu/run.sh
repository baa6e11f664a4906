#!/usr/bin/env bash
# The GPU suite, in the bundle that bundle.sh makes or in the tree: tests/gpu/run.sh [--out DIR] [--driver LIBRARY] [--quick]
# At most 10 minutes. Writes results.md and results.json; the last line is the count. PYTHON: the interpreter, with numpy;
# torch and safetensors are used where it has them.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
export PYTHONPATH="$root/client/python/src:$root/.build/python${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
python=${PYTHON:-python3}
"$python" -c "import numpy" || {
  echo "missing: a Python with numpy ($python has none)"
  echo "0 passed, 1 failed"
  exit 1
}
exec "$python" "$root/tests/gpu/suite.py" "$@"
