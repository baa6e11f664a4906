#!/bin/bash
# Installs what compare.py sets beside weightd into .bench-venv. Does nothing when that is there. Run
# deploy/install_deps.sh first: it finds or installs the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

requirements=tests/bench/requirements.txt
stamp=.bench-venv/.installed
[[ -f $stamp && $(<"$stamp") == "$(sha256sum "$requirements")" ]] && exit

pip() { .bench-venv/bin/python -m pip --disable-pip-version-check install -q "$@"; }

rm -rf .bench-venv
"$(readlink -f .venv/bin/python)" -m venv .bench-venv
pip "$(grep '^torch==' "$requirements")"
pip -r "$requirements"
sha256sum "$requirements" >"$stamp"
