#!/usr/bin/env bash
# The manifests of deploy/kubernetes on a real Kubernetes 1.20.2: control plane, kubelet and containerd of this machine, which it
# leaves as they were. As root, on Debian 12. Builds Kubernetes first if it hasn't yet (build.sh).
set -euo pipefail
cd "$(dirname "$0")/../.."

[[ $EUID -eq 0 ]] || {
  echo "tests/kubernetes/run.sh: a kubelet needs root; run: sudo $0" >&2
  exit 1
}
packages=(golang-go rsync etcd-server containerd containernetworking-plugins runc conntrack iproute2 openssl)
# Any kubectl will do. Where there is another, Debian's package may not be installed beside it: both have /usr/bin/kubectl.
command -v kubectl >/dev/null || packages+=(kubernetes-client)
./deploy/install_deps.sh --with "${packages[@]}"
tests/kubernetes/build.sh
bazel build --config=opt //daemon:weightd //client/cli:weightctl
mkdir -p .build
ln -sfn "$(readlink -f bazel-bin)" .build/opt
exec .venv/bin/python -m pytest -v -p no:cacheprovider "$@" tests/kubernetes/cluster/suite.py
