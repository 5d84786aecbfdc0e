# Everything is installed into .venv, with the versions of constraints.txt. A stamp in it says what is installed, so a second run starts at once.
PYTHON ?= python3
SAMPLE ?= composer_classify/samples/bach_bwv772.mid

SHELL := bash
# Notebooks in the order of their names, which is not that of every language
export LC_COLLATE := C
BIN := .venv/bin
# -qq: errors only. --use-pep517: the pip of Python 3.10 and 3.11 would otherwise run setup.py the old way
PIP := $(BIN)/python -m pip install -qq --use-pep517 -c constraints.txt
INSTALL_FROM := settings.ini setup.py constraints.txt
# TensorFlow leaves these kernels off on processors without AVX-512; with them networks train twice as fast there.
export TF_ENABLE_ONEDNN_OPTS ?= 1
# A checksum of each file that is written, or cleaned, from the notebooks
STATE := find nbs composer_classify tests tools runs/*.py README.md -type f ! -path '*/__pycache__/*' ! -path '*/.*' -exec cksum {} + 2>/dev/null | sort

.DEFAULT_GOAL := help
.PHONY: help demo install prepare test test-full docs lab hooks report clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS=$$'\t' read -r name text; do printf '  make %-9s %s\n' "$$name" "$$text"; done

# A half-made .venv would pass for a whole one next time: it goes when making it fails.
.venv/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON) here: install Python 3.10 to 3.13, or name yours, as in: make demo PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 10) <= v <= (3, 13) or sys.exit("composer_classify needs Python 3.10 to 3.13, and $(PYTHON) is %d.%d: name another, as in: make demo PYTHON=python3.11" % v)'
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

# Two steps of one .venv: to predict needs little, to develop needs TensorFlow, Jupyter and the rest.
.venv/.base: $(INSTALL_FROM) | .venv/bin/python
	$(PIP) -e .
	@touch $@

.venv/.dev: $(INSTALL_FROM) | .venv/bin/python
	@echo "Installing the whole development set (some minutes the first time)"
	$(PIP) -e '.[train,embedded,scores,audio,kaggle,app,cluster,dev]'
	@touch .venv/.base $@

demo: .venv/.base ## classify a sample MIDI file with the shipped model, and say how to start the web page
	$(BIN)/composer-classify predict $(SAMPLE) --plot demo.png
	@echo
	@echo "The figure: demo.png. The web page, once $(BIN)/pip install -c constraints.txt -e '.[app]' has run:"
	@echo "$(BIN)/composer-classify app  ->  http://127.0.0.1:7860"

install: .venv/.dev ## make .venv with everything needed to develop

LINTED := nbs tests tools runs
prepare: .venv/.dev ## after editing a notebook: lay out the code, write the modules and README.md again, clean the notebooks
	$(BIN)/ruff check --quiet --fix-only $(LINTED)
	$(BIN)/ruff format --quiet $(LINTED)
	$(BIN)/nbdev_export
	$(BIN)/nbdev_clean
	$(BIN)/python tools/render.py light
	$(BIN)/python tools/render.py readme

# Compared with the state before, not with git, so that it works on uncommitted work too.
test test-full: export MPLBACKEND := Agg
test test-full: export TF_CPP_MIN_LOG_LEVEL := 2
# Several processes share the cores: one that waits for a second core slows all of them down
test test-full: export OPENBLAS_NUM_THREADS := 1
test: NOT_SLOW := and not slow
test-full: export FUZZ ?= 1
test test-full: .venv/.dev
	@$(STATE) > .venv/before
	@$(MAKE) --no-print-directory prepare
	@$(STATE) > .venv/after; cmp -s .venv/before .venv/after || { \
	  echo "These did not match the notebooks, or were not clean. 'make prepare' has just written them again: look, then commit them."; \
	  diff .venv/before .venv/after | sed -n 's/^[<>] [0-9]* [0-9]* /  /p' | sort -u; exit 1; } >&2
	$(BIN)/ruff check $(LINTED)
	$(BIN)/nbdev_test --n_workers 2 --timing --do_print
	$(BIN)/python -m pytest tests -m "not alone $(NOT_SLOW)" -n 4 --dist loadfile --no-loadscope-reorder
	$(BIN)/python -m pytest tests -m "alone $(NOT_SLOW)"

test: ## generated files up to date, then every notebook, then tests/
test-full: ## the same with every slow variant of a test, as before a release

docs: export TF_CPP_MIN_LOG_LEVEL := 2
docs: .venv/.dev ## build the site into _docs/, with Quarto where it is installed, smalldocs otherwise
	$(BIN)/python tools/build_site.py
	@if command -v quarto >/dev/null; then cd _proc && quarto render --no-cache --profile wide; \
	elif [ -x $(BIN)/smalldocs ]; then $(BIN)/smalldocs render --quiet _proc; \
	else echo "The site needs Quarto, or a Python from 3.11 on (for smalldocs): rm -r .venv; make docs PYTHON=python3.11" >&2; exit 1; fi
	@rm -rf _docs && mv _proc/_docs _docs && mkdir _docs/notebooks && cp nbs/*.ipynb _docs/notebooks && echo "The site: _docs/index.html"

lab: .venv/.dev ## JupyterLab on the notebooks; LAB="--no-browser --port 8890" for more
	$(BIN)/jupyter lab nbs/ $(LAB)

# nbdev's hooks name its programs as if .venv were activated; git must find them without that.
hooks: .venv/.dev ## once a clone: notebooks are cleaned when JupyterLab saves them, and merged cell by cell
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/nbdev_install_hooks
	@git config --file .gitconfig merge.nbdev-merge.driver "'$(CURDIR)/$(BIN)/nbdev_merge' %O %A %B %P"
	@printf '#!/bin/sh\n"%s"\n' "$(CURDIR)/$(BIN)/nbdev_trust" > .git/hooks/post-merge
	@printf '#!/bin/sh\nruff="%s"\n"$$ruff" format --check --quiet $(LINTED) && "$$ruff" check --quiet $(LINTED) || { echo "make prepare lays the code out"; exit 1; }\n' \
	  "$(CURDIR)/$(BIN)/ruff" > .git/hooks/pre-commit && chmod +x .git/hooks/pre-commit

# runs/cpu/04_cnn.yaml holds the parameters of nbs/04_cnn.ipynb on a machine without a GPU. Afterwards every page is run once more, as the site shows what results/ holds.
# A notebook that is finished is not run again until it, its parameters, the library, KERAS_BACKEND or DATA change. SET=shipped makes the models that ship, of a corpus of all collections.
SET ?= cpu
report: export TF_CPP_MIN_LOG_LEVEL := 2
report: .venv/.dev ## run the notebooks on DATA=path/to/the/Kaggle/zip with the parameters in runs/SET: cpu, gpu, shipped or smoke (for DATA=embedded); writes results/ and the pages
	@$(BIN)/python runs/report.py "$(SET)" "$(DATA)" $(ONLY)
	@[ "$(SET)" = smoke ] || { echo "The pages, with what was measured:" && $(BIN)/python tools/render.py pages && $(MAKE) --no-print-directory prepare; }

clean: ## remove .venv and everything that was built, but for what was trained (runs/out)
	rm -rf .venv _docs _proc demo.png build dist *.egg-info .pytest_cache .hypothesis .benchmarks
