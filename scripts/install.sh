#!/usr/bin/env bash
# Installs what is built in target/release: install.sh DESTDIR PREFIX. `make install` builds first.
# INSTALL_PROFILE=debug takes what is built there, for the check of this script.
set -euo pipefail
cd "$(dirname "$0")/.."
destdir=$1
prefix=$2
case "$prefix" in /*) ;; *) echo "install: PREFIX must begin with /: $prefix" >&2; exit 1 ;; esac
from=${CARGO_TARGET_DIR:-target}/${INSTALL_PROFILE:-release}
to=$destdir$prefix
version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)

LINK_STRIP=-Wl,--strip-debug wire/capi/link.sh "$from"
install -d "$to/bin" "$to/lib/pkgconfig" "$to/include"
for program in chariotd chariot-bench dscli; do
  install -m 755 "$from/$program" "$to/bin/"
done
install -m 644 "$from/libchariot.a" "$to/lib/"
install -m 755 "$from/libchariot.so.$version" "$to/lib/"
cp -P "$from/libchariot.so.${version%.*}" "$from/libchariot.so" "$to/lib/"
(cd wire/capi/include && find . -name '*.h' -o -name '*.hpp') | while read -r header; do
  install -D -m 644 "wire/capi/include/$header" "$to/include/$header"
done
sed -e "s|@PREFIX@|$prefix|" -e "s|@VERSION@|$version|" wire/capi/chariot.pc.in \
  > "$to/lib/pkgconfig/chariot.pc"
chmod 644 "$to/lib/pkgconfig/chariot.pc"
echo "install: chariot $version is in $to"
