#!/bin/bash
# weightd on a real model, start to end, on this machine: installs what is missing, builds, serves MiniLM from a local
# web server, loads it once, uses it from two processes at the same time, and stops everything again. Needs root only
# where packages are missing. Exits 0 if every step and every check was good.
set -Eeuo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scratch=
nginx_pid=
daemon_pid=

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

fail() {
  trap - ERR
  echo "quickstart: $*" >&2
  exit 1
}

stop() {
  local status=$? pid
  trap - EXIT ERR
  for pid in $daemon_pid $nginx_pid; do
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  if [[ $status -ne 0 && -s $scratch/weightd.log ]]; then
    echo "quickstart: the daemon's last words:" >&2
    tail -n 5 "$scratch/weightd.log" >&2
  fi
  [[ -z $scratch ]] || rm -rf "$scratch"
  exit "$status"
}

trap stop EXIT
trap 'fail "stopped"' INT TERM
trap 'fail "failed in line $LINENO: $BASH_COMMAND"' ERR

# wait_for PID WHAT COMMAND...: until the command succeeds, while the process lives, at most 30 seconds.
wait_for() {
  local pid=$1 what=$2 tries
  shift 2
  for ((tries = 0; tries < 300; ++tries)); do
    "$@" >/dev/null 2>&1 && return
    kill -0 "$pid" 2>/dev/null || return 1
    sleep 0.1
  done
  fail "$what did not start within 30 s"
}

free_port() {
  .venv/bin/python -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Serves $model_folder on a free port of loopback, as $url. Somebody else may take the port first: then another one.
start_nginx() {
  local attempt port user=
  [[ $EUID -ne 0 ]] || user='user root;'
  mkdir "$scratch/nginx"
  echo "$scratch" >"$scratch/nginx/whoami"
  for attempt in 1 2 3 4 5; do
    port=$(free_port)
    url=http://127.0.0.1:$port
    # Slow enough to watch: 4 MiB/s on each connection.
    cat >"$scratch/nginx/nginx.conf" <<CONF
$user
daemon off;
pid $scratch/nginx/pid;
error_log $scratch/nginx/error.log;
events {}
http {
  access_log off;
  client_body_temp_path $scratch/nginx/t1;
  proxy_temp_path $scratch/nginx/t2;
  fastcgi_temp_path $scratch/nginx/t3;
  uwsgi_temp_path $scratch/nginx/t4;
  scgi_temp_path $scratch/nginx/t5;
  limit_rate 4m;
  server {
    listen 127.0.0.1:$port;
    root $model_folder;
    location = /whoami { root $scratch/nginx; }
  }
}
CONF
    PATH=$PATH:/usr/sbin nginx -p "$scratch/nginx" -e "$scratch/nginx/error.log" -c "$scratch/nginx/nginx.conf" &
    nginx_pid=$!
    wait_for "$nginx_pid" nginx is_ours && return
    wait "$nginx_pid" || true
    nginx_pid=
  done
  cat "$scratch/nginx/error.log" >&2
  fail "nginx does not start"
}

is_ours() {
  [[ $(curl -sf --noproxy '*' --max-time 5 "$url/whoami") == "$scratch" ]]
}

start_daemon() {
  mkdir -m 0700 "$scratch/run"
  bazel-bin/daemon/weightd --socket-dir "$scratch/run" >"$scratch/weightd.log" 2>&1 &
  daemon_pid=$!
  wait_for "$daemon_pid" weightd bazel-bin/client/cli/weightctl status || fail "weightd does not start"
}

say "Installing what is missing"
deploy/install_deps.sh

say "Building"
bazel build --config=opt //daemon:weightd //client/cli:weightctl

scratch=$(mktemp -d "${TMPDIR:-/tmp}/weightd-quickstart.XXXXXX")
export WEIGHTD_DIR=$scratch/run
export HF_HUB_OFFLINE=1
model_folder=$(.venv/bin/python deploy/quickstart/model_folder.py)

say "Serving $(du -h "$model_folder/model.safetensors" | cut -f1)B of MiniLM over HTTP, and starting weightd"
start_nginx
start_daemon
echo "nginx: $url    weightd: $WEIGHTD_DIR"

say "weightctl preload $url/model.safetensors"
bazel-bin/client/cli/weightctl preload "$url/model.safetensors"

say "Two processes build the model from the mapped tensors; then weightctl ls"
.venv/bin/python deploy/quickstart/two_processes.py "$url/model.safetensors" "$model_folder" "$daemon_pid" \
  bazel-bin/client/cli/weightctl ls

say "Stopping"
kill "$daemon_pid"
wait "$daemon_pid" || fail "weightd ended with $?"
daemon_pid=
echo "done: everything is stopped"
