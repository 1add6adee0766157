#!/usr/bin/env bash
# Installs what a fresh Debian machine lacks for building and testing. Says what it installs, needs
# root or sudo only when something is missing, and is quick when nothing is.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# Runs as root: directly, or through sudo.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

updated=no
apt_install() {
  command -v apt-get >/dev/null 2>&1 || fail "no apt-get on this machine: please install $*"
  if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null 2>&1; then
    fail "not root, and no sudo: run this as root: apt-get install $*"
  fi
  say "installing $* (apt-get)"
  if [ "$updated" = no ]; then
    as_root apt-get update -q >/dev/null || say "apt-get update failed; trying with what is known"
    updated=yes
  fi
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -q -y --no-install-recommends "$@" >/dev/null
}

missing=()
command -v cc >/dev/null 2>&1 || missing+=(gcc libc6-dev)
# The C and C++ programs of the tests.
command -v gcc >/dev/null 2>&1 || missing+=(gcc)
command -v g++ >/dev/null 2>&1 || missing+=(g++)
command -v clang >/dev/null 2>&1 || missing+=(clang)
command -v pkg-config >/dev/null 2>&1 || missing+=(pkg-config)
command -v make >/dev/null 2>&1 || missing+=(make)
command -v git >/dev/null 2>&1 || missing+=(git)
# The messages of etcd are compiled at build time; tests start a real etcd.
command -v protoc >/dev/null 2>&1 || missing+=(protobuf-compiler)
[ -e /usr/include/google/protobuf/descriptor.proto ] || missing+=(libprotobuf-dev)
command -v etcd >/dev/null 2>&1 || missing+=(etcd-server)
# Tests count instructions and system calls.
command -v valgrind >/dev/null 2>&1 || missing+=(valgrind)
command -v strace >/dev/null 2>&1 || missing+=(strace)
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
[ "${#missing[@]}" -eq 0 ] || apt_install "${missing[@]}"

export PATH="$PATH:$HOME/.cargo/bin"
channel=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' rust-toolchain.toml)
[ -n "$channel" ] || fail "rust-toolchain.toml names no channel"

if ! command -v cargo >/dev/null 2>&1 && ! command -v rustup >/dev/null 2>&1; then
  apt_install rustup || fail "no Rust here and no package rustup: install Rust $channel and retry"
fi
if command -v rustup >/dev/null 2>&1; then
  # A first `cargo` call would install the pinned toolchain too, but silently.
  if ! rustup run "$channel" rustc --version >/dev/null 2>&1; then
    say "installing the Rust toolchain $channel with rustfmt and clippy (rustup)"
    rustup toolchain install "$channel" --profile minimal --component rustfmt --component clippy
  fi
else
  found=$(cargo --version 2>/dev/null || true)
  case "$found" in
    "cargo $channel"*) ;;
    *) fail "this needs Rust $channel, found '${found:-none}': install rustup, it does the rest" ;;
  esac
fi
for component in rustfmt clippy; do
  case "$component" in rustfmt) tool=fmt ;; *) tool=clippy ;; esac
  if ! cargo "$tool" --version >/dev/null 2>&1; then
    command -v rustup >/dev/null 2>&1 || fail "$component is missing: install it for Rust $channel"
    say "installing $component (rustup)"
    rustup component add --toolchain "$channel" "$component"
  fi
done

# The SDK for Python is built and tested in an environment of its own.
venv=target/python-venv
if ! "$venv/bin/python" -c 'import maturin, pytest' 2>/dev/null; then
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "the Python SDK is built with Python 3.11 or newer; python3 here is $(python3 --version)"
  say "installing maturin and pytest into $venv (pip)"
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q --disable-pip-version-check 'maturin>=1.9,<2' 'pytest>=8,<10'
fi
