# Verbs for what the guard is made of, and for its worst day.

CYCLONEDX_VERSION := 0.5.9
CYCLONEDX := .tools/cargo-cyclonedx-$(CYCLONEDX_VERSION)

.PHONY: drill sbom offline-build demo-recording

drill: | need-cargo ## Failure scenarios, with what became of 10,000 events
	$(CARGO) test --locked --all-features --test failure_scenarios -- --show-output

sbom: $(CYCLONEDX)/bin/cargo-cyclonedx | need-cargo ## What each binary is built from, as CycloneDX files in dist/
	@mkdir -p dist
	@$(call cyclonedx,function,--no-default-features)
	@$(call cyclonedx,force-mfa,--features cli)

# cyclonedx NAME FEATURES: it writes beside Cargo.toml, and takes the name of the file without its ending.
cyclonedx = PATH="$(CURDIR)/$(CYCLONEDX)/bin:$$PATH" $(CARGO) cyclonedx --quiet --format json --spec-version 1.5 \
	--target aarch64-unknown-linux-gnu $(2) --override-filename $(1).cdx \
	&& mv $(1).cdx.json dist/$(1).cdx.json && echo dist/$(1).cdx.json

$(CYCLONEDX)/bin/cargo-cyclonedx: | need-cargo
	@echo "Building cargo-cyclonedx $(CYCLONEDX_VERSION): some minutes, once ..."
	@$(CARGO) install --locked --quiet --version $(CYCLONEDX_VERSION) --root $(CYCLONEDX) cargo-cyclonedx

offline-build: | need-cargo ## Build the function with the network cut off: no build script may need it (Linux)
	$(CARGO) fetch --locked
	unshare --map-root-user --net $(CARGO) build --locked --offline --bin function --target-dir target/offline

demo-recording: demo-function $(VENV)/.stamp ## Run the demo and keep what it shows as docs/demo.svg
	@$(VENV)/bin/python tools/demo.py --svg docs/demo.svg
