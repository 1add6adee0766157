#!/usr/bin/env bash
# Builds the wheel chariot-ds into target/wheels: the Python packages, and every binary, library and
# header that the release build has made by now.
#
#   scripts/wheel.sh                 one abi3 wheel, for Python 3.11 and later
#   scripts/wheel.sh 3.9 3.10        and one for each of these interpreters
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'wheel: %s\n' "$*"; }

venv=target/python-venv
[ -x "$venv/bin/maturin" ] || { say "no $venv: run scripts/setup.sh" >&2; exit 1; }
data=wire/python/chariot_ds.data
release=target/release

rm -rf "$data/scripts" "$data/data/lib" "$data/data/include"
mkdir -p "$data/scripts"
for name in chariotd dscli chariot-bench; do
  if [ -x "$release/$name" ]; then
    strip -o "$data/scripts/$name" "$release/$name"
  else
    say "without $name: $release has none"
  fi
done
if [ -e "$release/libchariot.so" ]; then
  mkdir -p "$data/data/lib" "$data/data/include"
  strip --strip-unneeded -o "$data/data/lib/libchariot.so" "$release/libchariot.so"
  for header in wire/capi/include/*; do cp -r "$header" "$data/data/include/"; done
else
  say "without libchariot: $release has none"
fi

"$venv/bin/maturin" build --release --manifest-path wire/python/Cargo.toml --out target/wheels \
  --interpreter "$venv/bin/python"
for version in "$@"; do
  interpreter=$(command -v "python$version" || ls -d "$HOME"/.pyenv/versions/"$version".*/bin/python \
    2>/dev/null | head -n 1)
  if [ -z "$interpreter" ]; then
    say "no Python $version here: no wheel for it"
    continue
  fi
  "$venv/bin/maturin" build --release --manifest-path wire/python/Cargo.toml --out target/wheels \
    --no-default-features --interpreter "$interpreter"
done
ls -l target/wheels/*.whl
