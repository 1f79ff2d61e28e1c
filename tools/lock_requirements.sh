#!/bin/sh
# `make lock`: renews the Python locks from their .in files, for every platform and every Python since 3.10.
set -eu
cd "$(dirname "$0")/.."

uv=.tools/lock/bin/uv
if ! test -x "$uv"; then
  "${PYTHON:-python3}" -m venv .tools/lock
  .tools/lock/bin/pip install --quiet uv
fi
for source in tests/requirements*.in benches/requirements.in; do
  "$uv" pip compile --quiet --upgrade --universal --python-version 3.10 --generate-hashes \
    --custom-compile-command "make lock" --output-file "${source%.in}.txt" "$source"
done
