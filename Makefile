# Everything runs in .venv; a second run is instant until pyproject.toml changes.
#   make demo    start Kairos and watch it decide          make test    every test
#   make up      start Kairos                              make check   format, lint, types, layers
#   make bench   measure, beside others: a table and bench.json; ONLY=decide runs one part
#   make clean   remove .venv and caches (never .kairos, where the data is)
# ARGS are handed on: make demo ARGS="--fast"; make test ARGS="tests/engine -k merge"

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo up test bench check clean

ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.kairos-run
DEV_STAMP := $(VENV)/.kairos-dev

help:
	@sed -n 's/^#   /  /p' Makefile

demo: $(RUN_STAMP)
	$(need_libgomp)
	@$(BIN)/kairos demo $(ARGS)

up: $(RUN_STAMP)
	$(need_libgomp)
	@$(BIN)/kairos up $(ARGS)

test: $(DEV_STAMP)
	$(need_libgomp)
ifeq ($(strip $(ARGS)),)
	@$(BIN)/pytest -m 'not ray' -n auto --maxprocesses 4 --dist loadfile
	@$(BIN)/pytest -m ray
else
	@$(BIN)/pytest $(ARGS)
endif

bench: $(DEV_STAMP)
	$(need_libgomp)
	@$(BIN)/python -m tests.bench

check: $(DEV_STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find engine actors serving training tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN_STAMP): pyproject.toml
	$(call install,.)

$(DEV_STAMP): pyproject.toml
	$(call install,.[dev])
	@cp $(DEV_STAMP) $(RUN_STAMP)

# What pip cannot install. `kairos doctor` looks at everything else.
define need_libgomp
@[[ "$$(uname)" != Linux ]] || $(BIN)/python -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null || { \
	echo "error: the system library libgomp.so.1 is missing; LightGBM needs it. Install the package:" >&2; \
	echo "       Debian, Ubuntu: apt-get install libgomp1      Fedora, RHEL: dnf install libgomp" >&2; exit 1; }
endef

# A stamp holds the hash of the pyproject.toml it was made from: a file that is newer and yet the same installs nothing.
define install
@python=; for p in python3 python3.13 python3.12 python3.11; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$p; break; fi; done; \
if ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	rm -rf $(VENV); \
	if command -v uv >/dev/null; then uv venv --quiet --python "$${python:-3.11}" $(VENV); \
	elif [[ -z "$$python" ]]; then \
		echo "error: Python 3.11 or later is needed; found $$(python3 --version 2>&1 || true)" >&2; exit 1; \
	elif ! $$python -m venv $(VENV); then rm -rf $(VENV); \
		echo "error: $$python cannot make a virtual environment. Debian, Ubuntu: apt-get install python3-venv" >&2; exit 1; \
	fi; \
fi; \
sum=$$($(BIN)/python -c 'import hashlib; print(hashlib.sha256(open("pyproject.toml", "rb").read()).hexdigest())'); \
if [[ "$$(cat $@ 2>/dev/null || true)" != "$$sum" ]]; then \
	echo "installing Kairos into $(VENV); again only when pyproject.toml has changed"; \
	if command -v uv >/dev/null; then uv pip install --quiet --python $(BIN)/python --editable '$(1)'; \
	else $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '$(1)'; fi; \
fi; \
echo "$$sum" > $@
endef
