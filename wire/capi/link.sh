#!/bin/sh
# Links libchariot.so from libchariot.a: link.sh DIRECTORY, where cargo has put the static library.
# Cargo's own cdylib cannot give the symbols versions: rustc passes a version script of its own.
set -eu
here=$(dirname "$0")
directory=$1
version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' "$here/../../Cargo.toml")
abi=${version%.*} # 0.1.2 -> 0.1: before 1.0 every minor release may break what was
# Written beside and renamed: two who link at once do not see each other's half file.
work=$(mktemp "$directory/libchariot.so.XXXXXX")
trap 'rm -f "$work"' EXIT
"${CC:-cc}" -shared -o "$work" \
  -Wl,--whole-archive "$directory/libchariot.a" -Wl,--no-whole-archive \
  -Wl,--version-script="$here/chariot.map" -Wl,-soname,"libchariot.so.$abi" \
  -Wl,--gc-sections -Wl,-z,defs -Wl,-z,relro,-z,now ${LINK_STRIP-} \
  -static-libgcc -lpthread -ldl -lm -lc
chmod 755 "$work"
mv "$work" "$directory/libchariot.so.$version"
ln -sf "libchariot.so.$version" "$directory/libchariot.so.$abi"
ln -sf "libchariot.so.$abi" "$directory/libchariot.so"
trap - EXIT
