# make setup | fid | gpu | test | proof | docs. Each sets up first; nothing is done twice.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
EXTRAS := .[eval,test,train,docs,dev]
STAMP := $(VENV)/.installed
ARGS ?=
# half of the tests' time goes into starting commands: one process per core, a test file stays in one process
WORKERS ?= -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: setup fid gpu test proof docs clean
.DEFAULT_GOAL := setup

setup: $(STAMP)

# uv installs in seconds where pip takes minutes; pip is the fallback. Byte code is compiled here, once: with
# PYTHONDONTWRITEBYTECODE set, every command would compile torch again
$(STAMP): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "sdvar needs Python 3.10 or newer, $(PYTHON) is $$($(PYTHON) --version 2>&1); set PYTHON=..." >&2; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	@$(PY) -m pip install --quiet --disable-pip-version-check uv --constraint constraints.txt || true
	@if $(PY) -m uv --version >/dev/null 2>&1; \
	    then UV_COMPILE_BYTECODE=1 $(PY) -m uv pip install --python $(PY) --editable '$(EXTRAS)' --constraint constraints.txt; \
	    else $(PY) -m pip install --editable '$(EXTRAS)' --constraint constraints.txt; fi
	@touch $@

# the main job on the bundled pair; options go in ARGS, such as make fid ARGS="--images_per_class 2"
fid: $(STAMP)
	$(PY) eval/fid.py $(ARGS)

# the first run on a machine with a GPU: is decoding right there, and how fast is it; ten minutes at most
gpu: $(STAMP)
	$(PY) eval/first_contact.py $(ARGS)

test: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pytest $(WORKERS) $(ARGS)

proof: $(STAMP)
	$(PY) -m pytest -m "proof or not proof" $(WORKERS) $(ARGS)

# every page of docs/ and the API reference, into build/docs
docs: $(STAMP)
	$(PY) -m mkdocs build --strict --quiet
	@echo build/docs/index.html

clean:
	rm -rf $(VENV) *.egg-info build
