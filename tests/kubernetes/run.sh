#!/usr/bin/env bash
# The manifests of deploy/kubernetes on a real Kubernetes 1.20.2: control plane, kubelet and containerd of this machine, which it
# leaves as they were. As root, on Debian 12. Builds Kubernetes first if it hasn't yet (build.sh).
set -euo pipefail
cd "$(dirname "$0")/../.."

packages=(golang-go rsync etcd-server containerd containernetworking-plugins runc conntrack iproute2 openssl)
command -v kubectl >/dev/null || packages+=(kubernetes-client)

[[ $EUID -eq 0 ]] || {
  echo "tests/kubernetes/run.sh: a kubelet needs root; run: sudo $0" >&2
  exit 1
}
./deploy/install_deps.sh
dpkg-query -W "${packages[@]}" >/dev/null 2>&1 || {
  # Packages start a service when they are installed, unless this file forbids it.
  if [[ ! -e /usr/sbin/policy-rc.d ]]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
  fi
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}"
}
tests/kubernetes/build.sh
bazel build --config=opt //daemon:weightd //client/cli:weightctl
mkdir -p .build
ln -sfn "$(readlink -f bazel-bin)" .build/opt
.venv/bin/python -m pytest -v -p no:cacheprovider "$@" tests/kubernetes/cluster/suite.py
