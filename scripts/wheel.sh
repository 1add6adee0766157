#!/usr/bin/env bash
# Builds the wheel chariot-ds into target/wheels: the Python packages, and beside them chariotd, dscli,
# chariot-bench, libchariot and its headers.
#
#   scripts/wheel.sh                 one abi3 wheel, for Python 3.11 and later
#   scripts/wheel.sh 3.9 3.10        and one for each of these interpreters
#
# Everything is built anew in target/dist, apart from the builds of every day, because its flags
# differ: no path of this machine stays in a binary, and the unwinder is linked in, so that nothing
# but libc is asked of the machine it lands on.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'wheel: %s\n' "$*"; }
fail() { say "$*" >&2; exit 1; }

venv=$PWD/target/python-venv
[ -x "$venv/bin/maturin" ] || fail "no $venv: run scripts/setup.sh"
export CARGO_TARGET_DIR=$PWD/target/dist
release=$CARGO_TARGET_DIR/release
unwinder=$CARGO_TARGET_DIR/static

# rustc asks for -lgcc_s by name; found first under that name, this gives the static pair instead.
mkdir -p "$unwinder"
printf 'GROUP ( -lgcc_eh -lgcc )\n' > "$unwinder/libgcc_s.so"
export RUSTFLAGS="-L native=$unwinder --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo --remap-path-prefix=$PWD=/chariot"
export CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_PROFILE_RELEASE_STRIP=symbols

"${CARGO:-cargo}" build --release --locked -p chariotd -p chariot-bench -p dscli -p chariot-capi
LINK_STRIP=-Wl,--strip-all wire/capi/link.sh "$release"

# What of this directory is not checked in is made here, for maturin to take up.
data=wire/python/chariot_ds.data
rm -rf "$data/scripts" "$data/data/lib" "$data/data/include"
mkdir -p "$data/scripts" "$data/data/lib/pkgconfig" "$data/data/include"
for program in chariotd dscli chariot-bench; do
  cp "$release/$program" "$data/scripts/"
done
# Wheels have no links: programs load the library by the name it has in itself, linkers read the
# other file, and both sit where the environment is.
version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
soname=libchariot.so.${version%.*}
cp "$release/libchariot.so.$version" "$data/data/lib/$soname"
printf 'INPUT ( %s )\n' "$soname" > "$data/data/lib/libchariot.so"
sed -e "s|@PREFIX@|\${pcfiledir}/../..|" -e "s|@VERSION@|$version|" wire/capi/chariot.pc.in \
  > "$data/data/lib/pkgconfig/chariot.pc"
cp -r wire/capi/include/. "$data/data/include/"

# One wheel of each kind: the check takes what it finds.
rm -f target/wheels/chariot_ds-*.whl
"$venv/bin/maturin" build --release --manifest-path wire/python/Cargo.toml --out target/wheels \
  --interpreter "$venv/bin/python"
for version in "$@"; do
  interpreter=
  # A command of that name may be a stand-in that finds no interpreter: the first that runs.
  for candidate in "python$version" "$HOME"/.pyenv/versions/"$version".*/bin/python; do
    if "$candidate" -c '' 2>/dev/null; then
      interpreter=$candidate
      break
    fi
  done
  if [ -z "$interpreter" ]; then
    say "no Python $version here: no wheel for it"
    continue
  fi
  "$venv/bin/maturin" build --release --manifest-path wire/python/Cargo.toml --out target/wheels \
    --no-default-features --interpreter "$interpreter"
done
ls -l target/wheels/*.whl
