# Each target sets up what it needs; a second call starts at once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# The GPU kernels on the CPU, in Triton's interpreter: the contract, and what goes beyond it.
GPU_TESTS := tests/ops/test_triton.py tests/ops/test_contract.py

.PHONY: study test test-torch lint lines bench docs pictures sanitize clean

study: $(VENV)/.study
	$(BIN)/levelhead study

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto
	if $(BIN)/python -c 'import triton' 2>/dev/null; then TRITON_INTERPRET=1 $(BIN)/python -m pytest -q -n auto $(GPU_TESTS); fi

# The tests on another PyTorch, in an environment of its own: make test-torch VERSION=2.14.1; without VERSION the contract on
# the oldest that pyproject.toml names.
OLDEST := $(shell sed -n 's/.*"torch>=\([0-9.]*\)".*/\1/p' pyproject.toml | head -1).0
VERSION ?= $(OLDEST)
TESTS ?= $(if $(filter $(OLDEST),$(VERSION)),tests/ops/test_contract.py,tests)
OTHER := .venv-torch-$(VERSION)
test-torch:
	$(PYTHON) -m venv $(OTHER)
	grep -vE '^(torch|triton)==' constraints.txt > $(OTHER)/constraints.txt
	$(OTHER)/bin/python -m pip install --quiet --disable-pip-version-check -c $(OTHER)/constraints.txt -e '.[dev]' torch==$(VERSION)
	$(OTHER)/bin/python -m pytest -q -n auto $(TESTS)

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

lines:
	$(PYTHON) benchmarks/lines.py

bench: $(VENV)/.study
	$(BIN)/levelhead bench norms --quick
	$(BIN)/levelhead bench dropout --quick
	$(BIN)/levelhead bench memory --quick

# The site, in build/site; a warning is an error, so a link within it that leads nowhere is one too.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -q -W --keep-going -d build/doctrees docs build/site
	@echo "build/site/index.html; to search it: $(BIN)/python -m http.server -d build/site"

pictures: $(VENV)/.study
	$(BIN)/python docs/pictures.py

# The kernels with AddressSanitizer and UndefinedBehaviorSanitizer pass the contract. Python's own leaks are not looked
# for; libstdc++ is loaded first too, or the sanitizer does not know torch's exceptions.
SANITIZED := build/sanitize
sanitize: $(VENV)/.dev
	PATH=$(abspath $(BIN)):$$PATH cmake -S src/levelhead/ops/csrc -B $(SANITIZED) -DLEVELHEAD_SANITIZE=ON \
		'-DLEVELHEAD_SETS=baseline;avx2' -DPython_EXECUTABLE=$(abspath $(BIN))/python
	PATH=$(abspath $(BIN)):$$PATH cmake --build $(SANITIZED) -j2
	for set in baseline avx2; do \
		LD_PRELOAD=$$(gcc -print-file-name=libasan.so):$$(gcc -print-file-name=libstdc++.so.6) ASAN_OPTIONS=detect_leaks=0 \
		LEVELHEAD_CPU=$$set LEVELHEAD_KERNELS=$(SANITIZED) $(BIN)/python -m pytest -q -p kernels_of_build \
		tests/ops/test_contract.py tests/ops/test_inplace.py -k 'cpu and not derivatives' || exit 1; \
	done

clean:
	rm -rf $(VENV) .venv-torch-* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

# One stamp an extra: .study for the product, .dev for the tests. The venv is asked for its Python first,
# so that a too old one is named before anything is downloaded.
$(VENV)/.%: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "levelhead needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$*]'
	@touch $@
