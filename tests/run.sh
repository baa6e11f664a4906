#!/usr/bin/env bash
# run.sh [--sanitizers]: installs what is missing, builds, and runs every test: formatting and lint, unit tests, the Python
# client, end-to-end tests with real processes, the quickstart; with --sanitizers, as CI does, unit and end-to-end tests again
# under ASan+UBSan and TSan, which takes twice as long. The last line is the true count.
set -u -o pipefail
sanitizers=""
case "$*" in
  "") ;;
  --sanitizers) sanitizers="asan tsan" ;;
  *)
    echo "usage: run.sh [--sanitizers]" >&2
    exit 2
    ;;
esac
cd "$(dirname "$0")/.." || exit 1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Files of tests at once. Most of them wait more than they compute.
side_by_side="-n 3 --dist loadfile"

say() { printf '\n== %s\n' "$*"; }
tally() { .venv/bin/python tests/tally.py "$scratch/results" "$@"; }

# check NAME COMMAND...: one pass or one failure.
check() {
  local name=$1 code
  shift
  say "$name"
  "$@"
  code=$?
  ((code == 0)) || echo "FAILED: $name"
  tally --step "$name" --exit-code "$code"
}

# unit_tests CONFIG: every C++ test; the cases are counted from the reports that the test programs write.
unit_tests() {
  local code
  say "unit tests ($1)"
  rm -f "$scratch/events"
  bazel test --config="$1" --build_tests_only --keep_going --build_event_json_file="$scratch/events" //tests/...
  code=$?
  bazel query --noshow_progress 'tests(//tests/...)' 2>/dev/null |
    tally --step "unit tests ($1)" --bazel "$scratch/events" --exit-code "$code"
}

# python_tests NAME CONFIG ARGUMENT...: pytest on the binaries of that configuration.
python_tests() {
  local name="$1 ($2)" config=$2 code
  shift 2
  say "$name"
  WEIGHTD_BUILD=$config .venv/bin/python -m pytest -q -rs -p no:cacheprovider -o tmp_path_retention_policy=failed --junitxml="$scratch/report.xml" "$@"
  code=$?
  tally --step "$name" --junit "$scratch/report.xml" --exit-code "$code"
  rm -f "$scratch/report.xml"
}

# binaries CONFIG: what the Python tests start, in a place of its own: bazel-bin names the last configuration built.
binaries() {
  local out
  mkdir -p .build && rm -f ".build/$1"
  bazel build --config="$1" //daemon:weightd //daemon/keeper:weightd-keeper //client/cli:weightctl //tests/bench/... //tests/e2e/... \
    //tests/fakes/fake_cuda/... \
    //tests/daemon/format:verdicts //tests/daemon/source/s3:signatures //tests/daemon/source/credentials:show_credentials || return 1
  out=$(readlink -f bazel-bin) && ln -s "$out" ".build/$1"
}

./deploy/install_deps.sh || {
  echo "installing dependencies failed"
  echo "0 passed, 1 failed"
  exit 1
}

check "formatting" bash -c "git ls-files '*.h' '*.cc' | xargs clang-format-19 --dry-run -Werror"
check "build (opt)" binaries opt
check "build (C library, examples)" bazel build --config=opt //client/c/... //client/cpp/examples/...
check "clang-tidy" bazel build --config=clang-tidy --keep_going //client/... //common/... //daemon/...
check "ruff" .venv/bin/ruff check client/python tests deploy
check "mypy" .venv/bin/mypy --config-file client/python/pyproject.toml client/python/src
unit_tests opt
python_tests client opt $side_by_side tests/client/python
python_tests servers opt tests/servers
python_tests rooms opt tests/common tests/daemon
python_tests bench opt tests/bench
check "build (GPU suite)" bazel build --config=opt //tests/contract/... //tests/gpu/...
python_tests gpu opt tests/gpu
python_tests kubernetes opt tests/kubernetes
python_tests e2e opt $side_by_side tests/e2e
no_containers=$(.venv/bin/python tests/containers/oci.py)
if [[ -z $no_containers ]]; then
  python_tests containers opt tests/containers
else
  say "containers (opt): skipped: $no_containers"
fi
python_tests packages opt tests/packages
python_tests soak opt tests/soak
for sanitizer in $sanitizers; do
  check "build ($sanitizer)" binaries "$sanitizer"
  unit_tests "$sanitizer"
  python_tests e2e "$sanitizer" $side_by_side -m "not plain_only" tests/e2e
done
check "quickstart" ./deploy/quickstart.sh # builds opt last: bazel-bin then holds what the README names

tally
