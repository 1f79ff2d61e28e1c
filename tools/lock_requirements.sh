#!/bin/sh
# `make lock`: renews the Python locks from their .in files, for every platform and every Python since 3.10.
set -eu
cd "$(dirname "$0")/.."

uv=.tools/lock/bin/uv
if ! test -x "$uv"; then
  "${PYTHON:-python3}" -m venv .tools/lock
  .tools/lock/bin/pip install --quiet uv
fi
# lock SOURCE OPTIONS...: writes SOURCE's lock beside it.
lock() {
  source=$1
  shift
  "$uv" pip compile --quiet --universal --python-version 3.10 --generate-hashes \
    --custom-compile-command "make lock" "$@" --output-file "${source%.in}.txt" "$source"
}

for source in tests/requirements.in tests/requirements-check.in benches/requirements.in; do
  lock "$source" --upgrade
done
# The same versions as the tests have, since they go into the same environment.
rm -f tests/requirements-demo.txt
lock tests/requirements-demo.in --constraints tests/requirements.txt --no-emit-package ziglang
