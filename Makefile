# The two commands: `make demo` and `make test`. Everything else they need is set up by the first of them.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check -q
READY := $(VENV)/.ready
# Threads that wait spin for some 50 us and then sleep: sleeping at once costs small kernels their second thread, spinning on costs
# everybody when a neighbour is busy.
WAIT := OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=5000
BUILD_INPUTS := pyproject.toml constraints.txt CMakeLists.txt $(shell find csrc -type f 2>/dev/null)

.PHONY: setup demo test test-slow triton bench gpu lint format nano wheel clean

setup: $(READY)

$(READY): $(BUILD_INPUTS)
	@echo "Setting up $(VENV): pinned packages, then the compiled kernels (a few minutes the first time)."
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt cmake ninja scikit-build-core pybind11 numpy torch
	$(PIP) install -c constraints.txt --no-build-isolation -e ".[dev]"
	touch $(READY)

demo: $(READY)
	$(PY) examples/demo.py

test: $(READY)
	$(WAIT) $(PY) -m pytest -q -m "not slow and not gpu"

test-slow: $(READY)
	$(WAIT) $(PY) -m pytest -q -m "slow and not gpu"

bench: $(READY)
	for file in benchmarks/ops/bench_*.py benchmarks/stages/bench_*.py; do \
	  $(WAIT) $(PY) -m $$(echo $${file%.py} | tr / .) || exit 1; \
	done

# Builds, tests and times on a GPU in under ten minutes. The build is one of its parts, so nothing is set up before.
gpu:
	$(PYTHON) -m benchmarks.gpu

nano: $(READY)
	$(PY) -m editscore.tuning.nano

# For the tests of the Triton kernels (in its interpreter, and compiled ahead of time); 1 GB, so not part of the set-up.
triton: $(READY)
	$(PIP) install -c constraints.txt triton

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/clang-format --dry-run --Werror $$(git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' 'csrc/*.cuh' 'tests/cpp/*.cpp')

format: $(READY)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	$(VENV)/bin/clang-format -i $$(git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' 'csrc/*.cuh' 'tests/cpp/*.cpp')

wheel: $(READY)
	$(PY) -m build --wheel --no-isolation --outdir dist .

clean:
	rm -rf build dist demo $(VENV)
