# make lab    JupyterLab on the quickstart notebook         make lab LAB_FLAGS=--no-browser
# make test   unit tests, notebooks, the widget in a browser  make test TEST_FLAGS=-x
# make check  formatters, linters, type checkers
# make site   the course as pages with living widgets, in build/site
# make assignments   for students, solved, and to grade     make assignments COURSE=../course

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
NOTEBOOK ?= notebooks/00_quickstart.ipynb
COURSE ?= build/assignments
LAB_FLAGS ?=
TEST_FLAGS ?=
FRONT := tests/front

define VENV_READY
@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 10) and "expected Python 3.10 or newer, found %d.%d: make ... PYTHON=python3.12" % v[:2])'
$(PYTHON) -m venv $(VENV)
endef

# the front end is checked and tested with Node.js, which users of the package do not need
ifneq ($(and $(shell command -v node),$(shell command -v npm)),)
NODE := yes
endif
NO_NODE := no Node.js on this machine: the front end is neither checked nor tested (Debian: apt install nodejs npm)

.PHONY: lab test check site assignments check-front test-front

lab: $(VENV)/installed-lab
	$(BIN)/python -m jupyterlab $(LAB_FLAGS) "$(NOTEBOOK)"

test: $(VENV)/installed-dev test-front
	$(BIN)/python -m pytest --nbval-lax --nbval-current-env tests notebooks $(TEST_FLAGS)

check: $(VENV)/installed-dev check-front
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

ifdef NODE
check-front: $(FRONT)/node_modules/installed
	cd $(FRONT) && npm run --silent check

test-front:
	cd $(FRONT) && node --test

$(FRONT)/node_modules/installed: $(FRONT)/package-lock.json
	cd $(FRONT) && npm ci --no-audit --no-fund
	touch $@
else
check-front test-front:
	@echo "$(NO_NODE)"
	@test -z "$$TOKENTM_REQUIRE_NODE"
endif

site: $(VENV)/installed-site
	$(BIN)/python notebooks/site/build.py

assignments: $(VENV)/installed-teaching
	$(BIN)/python notebooks/assignments/build.py --course "$(COURSE)"

# a stamp for each set of packages: nothing is installed twice, and pyproject.toml is the one list of them
$(VENV)/installed-lab: pyproject.toml
	$(VENV_READY)
	$(BIN)/python -m pip install --quiet --editable ".[lab]"
	touch $@

$(VENV)/installed-teaching: pyproject.toml
	$(VENV_READY)
	$(BIN)/python -m pip install --quiet --editable ".[teaching]"
	touch $(VENV)/installed-lab $@

$(VENV)/installed-site: pyproject.toml
	$(VENV_READY)
	$(BIN)/python -m pip install --quiet --editable ".[site]"
	touch $(VENV)/installed-lab $@

$(VENV)/installed-dev: pyproject.toml
	$(VENV_READY)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $(VENV)/installed-lab $(VENV)/installed-teaching $(VENV)/installed-site $@
