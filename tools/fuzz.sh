#!/bin/sh
# `make fuzz`: fuzzes each parser for FUZZ_TIME seconds. FUZZ_TARGETS names some of them.
set -eu
cd "$(dirname "$0")/.."

for target in ${FUZZ_TARGETS:-payload event credential_report settings}; do
  mkdir -p "fuzz/found/$target"
  # No sanitizer: they look for what only unsafe code can do, and the crate forbids it.
  cargo +nightly fuzz run --sanitizer none "$target" "fuzz/found/$target" "fuzz/corpus/$target" events -- \
    -max_total_time="${FUZZ_TIME:-60}" -timeout=10 -rss_limit_mb=1024 -max_len=65536
done
