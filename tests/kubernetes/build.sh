#!/usr/bin/env bash
# Builds Kubernetes' control plane and kubelet from Debian's source package, once, into ~/.cache/weightd-kubernetes. About 20
# minutes on two cores, 3 GiB of disk while it builds, 360 MiB afterwards. Does nothing, quickly, when they are there; goes on
# where it was stopped.
set -euo pipefail
shopt -s inherit_errexit

version=1.20.2
programs=(kube-apiserver kube-controller-manager kube-scheduler kubelet)
cache=${WEIGHTD_KUBERNETES_CACHE:-$HOME/.cache/weightd-kubernetes}
work=$cache/build

complete() {
  local program
  for program in "${programs[@]}"; do
    [[ -x $cache/bin/$program ]] || return 1
  done
}

# The source package, by a source list of our own: many machines have none. Nothing of the system's apt is changed.
fetch_source() {
  rm -rf "$work"
  mkdir -p "$work/lists/partial"
  echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${DEBIAN_MIRROR:-http://deb.debian.org/debian} bookworm main" \
    >"$work/sources.list"
  local options=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=-
    -o "Dir::State::lists=$work/lists" -o APT::Sandbox::User=root)
  apt-get -q "${options[@]}" update
  (cd "$work" && apt-get -q "${options[@]}" source --only-source kubernetes)
  touch "$work/fetched"
}

# Unpatched, with Debian's Go. Without a file of its version the build asks git, which knows another project's.
build() {
  rm -rf "$work/tmp"
  mkdir "$work/tmp"
  cat >"$work/version" <<END
KUBE_GIT_COMMIT='debian'
KUBE_GIT_TREE_STATE='archive'
KUBE_GIT_VERSION='v$version'
KUBE_GIT_MAJOR='1'
KUBE_GIT_MINOR='20'
END
  (
    cd "$work"/kubernetes-*/
    GOTMPDIR=$work/tmp KUBE_GIT_VERSION_FILE=$work/version GO111MODULE=off CGO_ENABLED=0 \
      make GOLDFLAGS="-s -w" WHAT="${programs[*]/#/cmd/}"
  )
}

mkdir -p "$cache/bin"
# One at a time: another that builds spares us the work.
exec 9>"$cache/lock"
flock 9
complete && exit
[[ -e $work/fetched ]] || fetch_source
build
for program in "${programs[@]}"; do
  mv "$work"/kubernetes-*/_output/local/bin/linux/amd64/"$program" "$cache/bin/"
done
rm -rf "$work"
