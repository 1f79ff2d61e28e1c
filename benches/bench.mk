# What the function costs. Included by the Makefile.

bench: .venv-bench/.stamp | need-cargo ## Speed, size and cost of an event beside an empty function and a boto3 one
	$(CARGO) build --locked --release --bin function
	$(CARGO) build --locked --release --manifest-path benches/floor/Cargo.toml --target-dir target/floor
	@# The parts last, for cargo bench leaves a function in target/release that unwinds; the next build puts the right
	@# one back. A bound that does not hold is told at the end.
	.venv-bench/bin/python benches/lambda.py; held=$$?; $(CARGO) bench --locked --bench parts && \
	  $(MAKE) --no-print-directory bench-organization && exit $$held

bench-organization: | need-cargo ## `status --organization` on 500, 1,000 and 2,000 accounts of a stub: time, memory, calls
	$(CARGO) bench --locked --features cli --bench organization

budget: | need-cargo need-python ## Are the function's size and number of crates within benches/budget.toml?
	$(CARGO) build --locked --release --bin function
	@$(PYTHON) benches/budget.py

.venv-bench/.stamp: benches/requirements.txt | need-python
	$(call make-venv,.venv-bench,$<)

.PHONY: bench bench-organization budget
