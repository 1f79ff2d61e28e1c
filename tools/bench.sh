#!/bin/sh
# `make bench`: speed, size and cost of an event, then the parts, then an organization.
set -eu
cd "$(dirname "$0")/.."

cargo=${CARGO:-cargo}
"$cargo" build --locked --release --bin function
"$cargo" build --locked --release --manifest-path benches/floor/Cargo.toml --target-dir target/floor
# A bound that does not hold is reported by the exit status at the end, when everything has been measured.
status=0
"$PYTHON" benches/lambda.py || status=$?
# Last, since cargo bench leaves a function in target/release that unwinds. The next build puts the right one back.
"$cargo" bench --locked --package parts
"$cargo" bench --locked --features cli --bench organization
exit "$status"
