#!/usr/bin/env bash
# run.sh [SECONDS [TARGET...]]: fuzzes every target, or those named, for that long (60), one after the other, from the
# corpora beside this file. New inputs go to a temporary folder; the input of a crash stays in .build/fuzz-failures/. Exit
# code 1 if any target failed.
set -eu -o pipefail
cd "$(dirname "$0")/../.."

seconds=${1:-60}
bazel=${BAZEL:-bazel}
targets=("${@:2}")
if [[ ${#targets[@]} -eq 0 ]]; then
  for corpus in tests/fuzz/corpus/*/; do
    targets+=("$(basename "$corpus")")
  done
fi

labels=("${targets[@]/#/\/\/tests\/fuzz:}")
"$bazel" build --config=fuzz "${labels[@]/%/_fuzzer}"
binaries=$("$bazel" info --config=fuzz bazel-bin)/tests/fuzz

failures=$PWD/.build/fuzz-failures
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$failures"
failed=0
for target in "${targets[@]}"; do
  mkdir "$work/$target"
  if "$binaries/${target}_fuzzer" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=16384 \
    -dict=tests/fuzz/words.dict -artifact_prefix="$failures/$target-" -verbosity=0 -print_final_stats=1 \
    "$work/$target" "tests/fuzz/corpus/$target" >"$work/$target.log" 2>&1; then
    echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$target.log") inputs, no failure"
  else
    echo "$target: FAILED"
    tail -40 "$work/$target.log"
    failed=1
  fi
done
exit $failed
