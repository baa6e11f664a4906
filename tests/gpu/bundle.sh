#!/usr/bin/env bash
# Builds what tests/gpu needs and packs it: .build/gpu-bundle.tar.gz, for a machine with a GPU and without anything else.
set -eu
cd "$(dirname "$0")/../.."
bazel build --config=opt //daemon:weightd //client/cli:weightctl //tests/contract/... //tests/fakes/fake_cuda/... //tests/gpu/...
.venv/bin/python tests/gpu/pack.py "$(readlink -f bazel-bin)" .build/gpu-bundle.tar.gz
