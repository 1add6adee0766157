#!/bin/sh
# Compares what a call costs in C and in Rust: per_call.sh HOST:PORT, of a daemon on this host. Needs
# valgrind. Instructions of 30,000 calls less those of 10,000 are those of 20,000, start-up excluded.
set -eu
cd "$(dirname "$0")/../.."
cargo build --release --locked -q -p chariot-capi --lib --example per_call
from=${CARGO_TARGET_DIR:-target}/release
wire/capi/link.sh "$from"
"${CC:-cc}" -O2 -Iwire/capi/include wire/capi/examples/per_call.c -o "$from/per_call_c" \
  -L"$from" -Wl,-rpath,"$(realpath "$from")" -lchariot
instructions() { # PROGRAM OPERATION CALLS
  valgrind --tool=callgrind --callgrind-out-file=/dev/null "$1" "$address" "$2" "$3" 2>&1 \
    | sed -n 's/.*Collected : *\([0-9]*\).*/\1/p'
}
address=$1
"${CC:-cc}" -O2 -Iwire/capi/include wire/capi/examples/per_call.c -o "$from/per_call_static" \
  "$from/libchariot.a" -lpthread -ldl -lm
for operation in ${OPERATIONS:-exist get view}; do
  rust=$(( ($(instructions "$from/examples/per_call" $operation 30000) \
    - $(instructions "$from/examples/per_call" $operation 10000)) / 20000 ))
  c=$(( ($(instructions "$from/per_call_c" $operation 30000) \
    - $(instructions "$from/per_call_c" $operation 10000)) / 20000 ))
  s=$(( ($(instructions "$from/per_call_static" $operation 30000) \
    - $(instructions "$from/per_call_static" $operation 10000)) / 20000 ))
  echo "$operation: instructions a call: Rust $rust, C $s (static), $c (shared)"
done
