# `make demo` and `make test` need git, make and Python 3.11 or newer; they create .venv the first time.
PYTHON ?= python3
BIN := .venv/bin
PARALLEL := --numprocesses auto --maxprocesses 8 --dist loadfile
INSTALLED := .venv/installed

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all lint format docs wheels doctor clean study-known-world study-search study-a study-b study-c \
	study-d table2 table3 tables

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## create .venv with all dependencies (about 6 GB)

# The stamp is written last, so that a failed installation is repeated.
$(INSTALLED): requirements.txt setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "'$(PYTHON)' is not Python 3.11 or newer; choose one: make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev]'
	touch $@

demo: $(INSTALLED)  ## run the full pipeline on bundled images (about 4 minutes); writes demo/
	$(BIN)/ddpm-pairs demo

test: $(INSTALLED)  ## run the default tests, on all cores
	$(BIN)/python -m pytest $(PARALLEL)

test-all: $(INSTALLED)  ## run the slow tests too
	$(BIN)/python -m pytest $(PARALLEL) -m ""

lint: $(INSTALLED)  ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(INSTALLED)  ## fix style and format automatically where possible
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED)  ## build the documentation site, strictly; open site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

wheels: $(INSTALLED)  ## download the wheels that benchmarks/gpu.sh installs on a machine without a network
	$(BIN)/python benchmarks/gather_wheels.py --output_dir wheels

doctor: $(INSTALLED)  ## check packages, devices, weights, and the command lightning
	$(BIN)/ddpm-pairs doctor

# Studies of results/, on the images in DATA; they write to WORK and can be resumed.
DATA ?= data
WORK ?= work

study-known-world: $(INSTALLED)  ## rerun results/known_world; DATA=image folder, WORK=output folder
	$(BIN)/python -m results.known_world.study --photographs $(DATA)/hq_natural/web_photos --work $(WORK)/known_world

study-search: $(INSTALLED)  ## rerun the recipe search of results/study_b
	$(BIN)/python -m results.study_b.search --photographs $(DATA)/hq_natural/web_photos --work $(WORK)/known_world

study-a: $(INSTALLED)  ## rerun results/study_a
	$(BIN)/python -m results.study_a.study --data $(DATA) --work $(WORK)/study_a

study-b: $(INSTALLED)  ## rerun results/study_b
	$(BIN)/python -m results.study_b.study --data $(DATA) --work $(WORK)/study_b

study-c: $(INSTALLED)  ## rerun results/study_c
	PYTHONPATH=benchmarks $(BIN)/python -m results.study_c.study --hq_dir $(DATA)/hq_natural/web_photos \
		--lq_dir $(DATA)/blind_camera/lq_train --work $(WORK)/study_c

study-d: $(INSTALLED)  ## rerun results/study_d, after study-search
	$(BIN)/python -m results.study_d.study --photographs $(DATA)/hq_natural/web_photos --work $(WORK)/known_world

table2: $(INSTALLED)  ## restorers from every way to make LQ (results/rivals); WORK may be that of study-known-world
	$(BIN)/python -m results.rivals.table2 --photographs $(DATA)/hq_natural/web_photos --work $(WORK)/known_world

table3: $(INSTALLED)  ## every way to make LQ, as it is and walked (results/rivals)
	$(BIN)/python -m results.rivals.table3 --data $(DATA) --work $(WORK)/rivals

tables: $(INSTALLED)  ## print the tables of studies a, b and d from the files in results/
	$(BIN)/python -m results.tables

clean:  ## remove .venv and build outputs
	rm -rf .venv build dist site ddpm_pairs.egg-info .pytest_cache .ruff_cache
