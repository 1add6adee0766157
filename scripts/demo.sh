#!/usr/bin/env bash
# The demo: builds, starts a daemon on free ports in a directory of its own, replays a trace against
# it, prints what the load tool reports, and stops the daemon.
#
#   make demo                       a synthetic multi-turn workload
#   make demo TRACE=trace.jsonl     a trace of your own
#   DEMO_MEMORY=2GiB, DEMO_BLOCK=64KiB, DEMO_REQUESTS=N   change the set-up
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:$HOME/.cargo/bin"

trace=${TRACE:-synthetic}
memory=${DEMO_MEMORY:-512MiB}
block=${DEMO_BLOCK:-64KiB}
requests=${DEMO_REQUESTS:-2000}
if [ "$trace" != synthetic ] && [ ! -r "$trace" ]; then
  echo "demo: cannot read TRACE=$trace" >&2
  exit 2
fi

echo "demo: building chariotd and chariot-bench (the first time takes a few minutes)"
cargo build --release --locked -q -p chariotd -p chariot-bench
bin=${CARGO_TARGET_DIR:-target}/release

directory=$(mktemp -d "${TMPDIR:-/tmp}/chariot-demo.XXXXXX")
log=$directory/chariotd.log
daemon=
stop() {
  if [ -n "$daemon" ] && kill -TERM "$daemon" 2>/dev/null; then
    wait "$daemon" || true
  fi
  rm -rf "$directory"
}
trap stop EXIT
trap 'exit 130' INT TERM

# A port nobody listens on: below the range of outgoing connections, so that it stays free.
taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
free_port() {
  local port
  for _ in $(seq 50); do
    port=$((20000 + RANDOM % 10000))
    if ! taken "$port" && [ "$port" != "${1:-}" ]; then
      echo "$port"
      return
    fi
  done
  echo "demo: no free port found" >&2
  return 1
}
port=$(free_port)
admin=$(free_port "$port")

# Answers of the admin endpoints, without curl.
ask() {
  exec 3<>"/dev/tcp/127.0.0.1/$admin" || return 1
  printf 'GET %s HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n' "$1" >&3
  cat <&3
  exec 3>&-
}

echo "demo: starting chariotd with $memory on 127.0.0.1:$port, admin on 127.0.0.1:$admin"
"$bin/chariotd" --memory "$memory" --listen "127.0.0.1:$port" --admin "127.0.0.1:$admin" \
  --socket "$directory/chariot.sock" 2>"$log" &
daemon=$!
for attempt in $(seq 100); do
  if ! kill -0 "$daemon" 2>/dev/null; then
    echo "demo: chariotd did not start:" >&2
    tail -n 5 "$log" >&2
    daemon=
    exit 1
  fi
  if ask /readyz 2>/dev/null | grep -q '^HTTP/1.1 200'; then
    break
  fi
  if [ "$attempt" -eq 100 ]; then
    echo "demo: chariotd is not ready after 10 s:" >&2
    tail -n 5 "$log" >&2
    exit 1
  fi
  sleep 0.1
done

echo "demo: replaying $trace ($requests requests at most, $block a block)"
"$bin/chariot-bench" replay --socket "$directory/chariot.sock" --trace "$trace" \
  --requests "$requests" --block-bytes "$block" --as-fast-as-possible --admin "127.0.0.1:$admin"

kill -TERM "$daemon"
status=0
wait "$daemon" || status=$?
daemon=
if [ "$status" -ne 0 ]; then
  echo "demo: chariotd ended with status $status:" >&2
  tail -n 5 "$log" >&2
  exit 1
fi
echo "demo: chariotd drained and stopped"
