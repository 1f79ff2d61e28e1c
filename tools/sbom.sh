#!/bin/sh
# `make sbom`: what each binary is built from, as CycloneDX files in dist/.
set -eu
cd "$(dirname "$0")/.."

version=0.5.9
root=.tools/cargo-cyclonedx-$version
cargo=${CARGO:-cargo}
if ! test -x "$root/bin/cargo-cyclonedx"; then
  echo "Building cargo-cyclonedx $version: some minutes, once ..."
  "$cargo" install --locked --quiet --version "$version" --root "$root" cargo-cyclonedx
fi

# sbom NAME FEATURES...: the program writes beside Cargo.toml, and takes the name of the file without its ending.
sbom() {
  name=$1
  shift
  PATH="$PWD/$root/bin:$PATH" "$cargo" cyclonedx --quiet --format json --spec-version 1.5 \
    --target aarch64-unknown-linux-gnu "$@" --override-filename "$name.cdx"
  mv "$name.cdx.json" "dist/$name.cdx.json"
  echo "dist/$name.cdx.json"
}

mkdir -p dist
sbom function --no-default-features
sbom force-mfa --features cli
