#!/usr/bin/env bash
# Holds the dashboard against Grafana's own schema: a field that is misspelt or of another type fails. Needs npm, which
# fetches the schema and a TypeScript compiler into a folder that is removed afterwards; so it is not part of tests/run.sh.
set -euo pipefail
dashboard=$(realpath "$(dirname "$0")/../../deploy/observability/dashboard.json")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
npm install --silent --no-audit --no-fund --ignore-scripts @grafana/schema@13.2.3 typescript@5
{
  echo 'import { ThresholdsMode, type Dashboard } from "@grafana/schema";'
  # An enum of TypeScript's is no string to it.
  printf 'export const dashboard = %s satisfies Dashboard;\n' \
    "$(sed 's/"mode": "absolute"/"mode": ThresholdsMode.Absolute/' "$dashboard")"
} >dashboard.ts
npx tsc --noEmit --strict --skipLibCheck --moduleResolution bundler --module esnext --target es2022 dashboard.ts
echo "the dashboard is as Grafana's schema says"
