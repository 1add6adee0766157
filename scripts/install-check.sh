#!/usr/bin/env bash
# Checks `make install` as a packager would: into an empty DESTDIR, and then from there, with
# pkg-config, gcc and clang, the examples in C and C++, shared and static, one of them under valgrind.
#
#   scripts/install-check.sh [PROFILE]     release (what make install builds, the default) or debug
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'install-check: %s\n' "$*" >&2; exit 1; }

profile=${1:-release}
scratch=$(mktemp -d)
daemon=
cleanup() {
  [ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true
  [ -z "$daemon" ] || wait "$daemon" 2>/dev/null || true
  rm -rf "$scratch"
}
trap cleanup EXIT

INSTALL_PROFILE=$profile ./scripts/install.sh "$scratch/root" /opt/chariot
there=$scratch/root/opt/chariot
for file in bin/chariotd bin/dscli bin/chariot-bench lib/libchariot.a lib/libchariot.so \
  lib/pkgconfig/chariot.pc include/chariot.h include/chariot.hpp \
  include/datasystem/datasystem.h include/datasystem/kv/read_only_buffer.h; do
  [ -e "$there/$file" ] || fail "no $file is installed"
done
if find "$scratch/root" -type f -perm /022 | grep .; then fail "others may write there"; fi

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
admin=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$there/bin/chariotd" --memory 128MiB --listen "127.0.0.1:$port" --admin "127.0.0.1:$admin" \
  --socket "$scratch/socket" --ready-file "$scratch/ready" > "$scratch/log" 2>&1 &
daemon=$!
for _try in $(seq 600); do
  [ ! -e "$scratch/ready" ] || break
  kill -0 "$daemon" 2>/dev/null || { cat "$scratch/log" >&2; fail "chariotd has ended"; }
  sleep 0.1
done
[ -e "$scratch/ready" ] || fail "chariotd is not ready"

# pkg-config where there is one; else the three lines of chariot.pc say the same.
flags() {
  if command -v pkg-config > /dev/null; then
    PKG_CONFIG_PATH=$there/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$scratch/root pkg-config "$@" chariot
  else
    echo "-I$there/include -L$there/lib -lchariot"
  fi
}
static() { sed -n 's/^Libs.private: *//p' "$there/lib/pkgconfig/chariot.pc"; }

# shellcheck disable=SC2046 # flags are words
for pair in 'gcc g++' 'clang clang++'; do
  read -r c cpp <<< "$pair"
  command -v "$cpp" > /dev/null || { echo "install-check: no $c here"; continue; }
  "$c" -Wall -Werror wire/capi/examples/hello.c $(flags --cflags --libs) -o "$scratch/c"
  "$cpp" -std=c++17 -Wall -Werror wire/capi/examples/hello.cpp $(flags --cflags --libs) \
    -o "$scratch/cpp"
  "$c" wire/capi/examples/hello.c -I"$there/include" "$there/lib/libchariot.a" $(static) \
    -o "$scratch/static"
  LD_LIBRARY_PATH=$there/lib "$scratch/c" "127.0.0.1:$port" | grep -qx 'from C' || fail "$c"
  LD_LIBRARY_PATH=$there/lib "$scratch/cpp" "127.0.0.1:$port" | grep -qx 'from C++' || fail "$cpp"
  "$scratch/static" "127.0.0.1:$port" | grep -qx 'from C' || fail "$c, static"
done

# valgrind sees reads of what is not ours, and what nobody holds at the end.
if command -v valgrind > /dev/null; then
  for program in c cpp; do
    LD_LIBRARY_PATH=$there/lib valgrind -q --error-exitcode=9 --leak-check=full \
      --errors-for-leak-kinds=definite "$scratch/$program" "127.0.0.1:$port" > "$scratch/said" ||
      fail "$program under valgrind"
    grep -q '^from C' "$scratch/said" || fail "$program under valgrind says something else"
  done
else
  echo "install-check: no valgrind here"
fi
echo "install-check: ok"
