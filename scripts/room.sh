#!/usr/bin/env bash
# Says at once when the disk is too small for the tests, which would fail ten minutes later. Tests of
# the SSD tier make files of up to 1 GiB, five at a time; a debug build takes 5 GiB, and as much again
# for incremental builds (CARGO_INCREMENTAL=0: without).
set -euo pipefail
cd "$(dirname "$0")/.."

free_gib() { df --output=avail -BG "$1" | tail -1 | tr -dc '0-9'; }
fail() { printf 'room: %s\n' "$*" >&2; exit 1; }

target=${CARGO_TARGET_DIR:-target}
temporary=${TMPDIR:-/tmp}
# What is built already needs no room again.
build=1
if [ ! -d "$target/debug/deps" ]; then
  build=11
  [ "${CARGO_INCREMENTAL:-1}" != 0 ] || build=6
fi
mkdir -p "$target"
here=$(free_gib "$target")
there=$(free_gib "$temporary")
if [ "$(stat -c %d "$target")" = "$(stat -c %d "$temporary")" ]; then
  [ "$here" -ge $((build + 5)) ] ||
    fail "the tests need $((build + 5)) GiB on the disk of $target and $temporary, $here GiB are free"
else
  [ "$here" -ge "$build" ] || fail "the build needs $build GiB in $target, $here GiB are free"
  [ "$there" -ge 5 ] ||
    fail "the tests need 5 GiB in $temporary, $there GiB are free; TMPDIR=DIR puts them elsewhere"
fi
