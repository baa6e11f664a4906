#!/usr/bin/env bash
# Weightd under everything at once: tests/soak/run.sh [MINUTES]. Half an hour unless told otherwise; fails if a byte was wrong,
# something grew, or a counter lied.
set -euo pipefail
cd "$(dirname "$0")/../.."
./deploy/install_deps.sh
bazel build --config=opt //daemon:weightd //client/cli:weightctl
mkdir -p .build && ln -sfn "$(readlink -f bazel-bin)" .build/opt
exec .venv/bin/python tests/soak/soak.py --minutes "${1:-30}"
