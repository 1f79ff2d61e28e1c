# Seconds for each target.
FUZZ_TIME ?= 60
FUZZ_TARGETS := payload event credential_report settings

.PHONY: fuzz
# No sanitizer: they look for what only unsafe code can do, and the crate forbids it.
fuzz: ## Fuzz each parser for FUZZ_TIME seconds (needs cargo-fuzz and a nightly compiler)
	@for target in $(FUZZ_TARGETS); do \
	  mkdir -p fuzz/found/$$target && \
	  cargo +nightly fuzz run --sanitizer none $$target fuzz/found/$$target fuzz/corpus/$$target events -- \
	    -max_total_time=$(FUZZ_TIME) -timeout=10 -rss_limit_mb=1024 -max_len=65536 || exit 1; \
	done
