#!/usr/bin/env bash
# Installs the wheel into an empty environment, with nothing from anywhere else, and runs the quick
# start of chariot-ds there: dscli start, a client, dscli stop. Looks at every binary on the way.
set -euo pipefail
cd "$(dirname "$0")/.."
top=$PWD

fail() { printf 'wheel-check: %s\n' "$*" >&2; exit 1; }

wheel=$(ls -t target/wheels/chariot_ds-*-abi3-*.whl | head -n 1)
size=$(stat -c %s "$wheel")
[ "$size" -lt $((25 << 20)) ] || fail "$wheel has $size bytes, 25 MiB is the limit"

scratch=$(mktemp -d)
address=
venv=$scratch/venv
# Nothing of this machine but what the environment holds: no compiler, no other Python package.
bare() { env -i PATH="$venv/bin" HOME="$scratch" "$@"; }
cleanup() {
  [ -z "$address" ] || bare dscli stop --worker_address "$address" || true
  rm -rf "$scratch"
}
trap cleanup EXIT

python3 -m venv "$venv"
bare pip install -q --disable-pip-version-check --no-index "$top/$wheel"

for file in bin/chariotd bin/dscli bin/chariot-bench lib/libchariot.so.0.1 lib/libchariot.so \
  lib/pkgconfig/chariot.pc include/chariot.h include/chariot.hpp \
  include/datasystem/kv_client.h share/doc/chariot-ds/LICENSE; do
  [ -e "$venv/$file" ] || fail "the wheel brings no $file"
done

# Binaries, wherever they lie: what they ask the loader for, and what they tell of this machine.
mkdir "$scratch/wheel"
python3 -m zipfile -e "$wheel" "$scratch/wheel"
binaries=0
while IFS= read -r -d '' file; do
  head -c 4 "$file" | grep -q ELF || continue
  binaries=$((binaries + 1))
  name=$(basename "$file")
  # All of these are packages of libc.
  beyond=$(readelf -d "$file" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' |
    grep -vE '^(libc|libm|libpthread|libdl|librt|ld-linux[^.]*)\.so' || true)
  [ -z "$beyond" ] || fail "$name links $beyond"
  if readelf -d "$file" | grep -E 'RPATH|RUNPATH'; then fail "$name looks for libraries elsewhere"; fi
  if readelf -S "$file" | grep -E '\.(symtab|debug_info)'; then fail "$name is not stripped"; fi
  for path in "$HOME/" "$top/"; do
    [ "$path" = // ] || ! grep -qaF "$path" "$file" || fail "$name tells of $path"
  done
done < <(find "$scratch/wheel" -type f -print0)
[ "$binaries" -ge 5 ] || fail "only $binaries binaries in the wheel"

port=$(bare python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
address=127.0.0.1:$port
cd "$scratch"
bare dscli start -d "$scratch/home" -w --worker_address "$address" --start_metastore_service true \
  --shared_memory_size_mb 256 > start.log 2>&1 || { cat start.log >&2; fail "dscli start failed"; }
grep -F '[  OK  ] Start worker service @' start.log || fail "dscli start did not say so"
bare python - "$port" <<'P'
import subprocess
import sys

from datasystem.ds_client import DsClient

client = DsClient("127.0.0.1", int(sys.argv[1]))
client.init()
client.kv().set("quick", "start")
assert client.kv().get(["quick"], True) == ["start"]

# The library, without a compiler.
import ctypes

library = ctypes.CDLL(sys.prefix + "/lib/libchariot.so.0.1")
assert library.chariot_abi_version() > 0

program = "import time; t = time.perf_counter(); import datasystem; print(time.perf_counter() - t)"
runs = [float(subprocess.check_output([sys.executable, "-c", program])) for _ in range(7)]
print("import datasystem: %.1f ms" % (min(runs) * 1000))
assert min(runs) < 0.05, runs
print("quick start: ok")
P
bare chariot-bench --help > /dev/null

# With a compiler and pkg-config, the environment is enough to build against.
if command -v pkg-config > /dev/null && command -v cc > /dev/null; then
  flags=$(PKG_CONFIG_PATH=$venv/lib/pkgconfig pkg-config --cflags --libs chariot)
  # shellcheck disable=SC2086 # flags are words
  cc "$top/wire/capi/examples/hello.c" $flags -o hello
  LD_LIBRARY_PATH=$venv/lib ./hello "$address"
fi
bare dscli stop --worker_address "$address"
address=
printf 'wheel-check: %s, %s bytes, %s binaries: ok\n' "$(basename "$wheel")" "$size" "$binaries"
