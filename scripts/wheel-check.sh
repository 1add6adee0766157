#!/usr/bin/env bash
# Installs the wheel into an empty environment, with nothing from anywhere else, and runs the quick
# start of chariot-ds: dscli start, a client, dscli stop.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'wheel-check: %s\n' "$*" >&2; exit 1; }

wheel=$(ls -t target/wheels/chariot_ds-*-abi3-*.whl | head -n 1)
size=$(stat -c %s "$wheel")
[ "$size" -lt $((25 << 20)) ] || fail "$wheel has $size bytes, 25 MiB is the limit"

scratch=$(mktemp -d)
address=
cleanup() {
  [ -z "$address" ] || "$scratch/venv/bin/dscli" stop --worker_address "$address" || true
  rm -rf "$scratch"
}
trap cleanup EXIT

python3 -m venv "$scratch/venv"
# No compiler, no index: what is in the wheel is all there is.
"$scratch/venv/bin/pip" install -q --disable-pip-version-check --no-index "$wheel"

for file in "$scratch"/venv/bin/{chariotd,dscli,chariot-bench} \
  "$scratch"/venv/lib/python3*/site-packages/chariot/_native*.so; do
  [ -x "$file" ] || [[ $file == *.so ]] || fail "the wheel has no $(basename "$file")"
  beyond=$(ldd "$file" | awk '{print $1}' |
    grep -vE '^(linux-vdso|libc|libm|libgcc_s|libpthread|libdl|/lib.*/ld-linux)' || true)
  [ -z "$beyond" ] || fail "$(basename "$file") links $beyond"
done

port=$("$scratch/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
address=127.0.0.1:$port
cd "$scratch"
env -i PATH=/usr/bin:/bin HOME="$scratch" venv/bin/dscli start -d "$scratch/home" \
  -w --worker_address "$address" --start_metastore_service true --shared_memory_size_mb 256 2>&1 |
  tee start.log
grep -qF '[  OK  ] Start worker service @' start.log || fail "dscli start did not succeed"
env -i PATH=/usr/bin:/bin HOME="$scratch" venv/bin/python - "$port" <<'P'
import sys

from datasystem.ds_client import DsClient

client = DsClient("127.0.0.1", int(sys.argv[1]))
client.init()
client.kv().set("quick", "start")
assert client.kv().get(["quick"], True) == ["start"]
print("quick start: ok")
P
printf 'wheel-check: %s, %s bytes: ok\n' "$(basename "$wheel")" "$size"
