PYTHON ?= python3
VENV := .venv
OLDEST := .venv-oldest
RUN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# What rendering needs, for the demo alone; where all is installed, that will do.
RENDERING := $(if $(wildcard $(INSTALLED)),$(INSTALLED),$(VENV)/.rendering)
# Two processes share the tests, file by file: a run keeps one core busy, and two are what everybody has.
PYTEST := $(RUN)/python -m pytest -n 2

define NEEDS_PYTHON
This needs Python 3.10 or newer, and '$(PYTHON)' is not. Name another one: make PYTHON=python3.12 ...
endef
define NEEDS_VENV
'$(PYTHON) -m venv' could not make a working environment with pip in it.
On Debian and Ubuntu: install python3-venv. Then remove $(VENV) and run make again.
endef
define NEEDS_OLD
The oldest packages have wheels for Python 3.10 and 3.11 only, and '$(PYTHON)' is neither: make oldest PYTHON=python3.11
endef
export NEEDS_PYTHON NEEDS_VENV NEEDS_OLD

.PHONY: help demo test check oldest test-comfyui

help:
	@echo "make demo    render workflows/storyboards/first_film.txt into films/ (sets up $(VENV) first)"
	@echo "make test    run the tests"
	@echo "make check   style, types and tests"
	@echo "make oldest  the tests of films under the lowest PyAV, numpy and Pillow that requirements.txt allows"
	@echo "make test-comfyui   all tests inside a real ComfyUI and its browser page, the long ones too (COMFYUI_PATH names it)"

demo: $(RENDERING)
	$(RUN)/grounded render workflows/storyboards/first_film.txt --out films/first_film.mp4

test: $(INSTALLED)
	$(PYTEST)

check: $(INSTALLED)
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/pyright
	$(PYTEST)

test-comfyui: $(INSTALLED)
	$(RUN)/python dev/comfyui/setup.py
	$(RUN)/python -m pip install --disable-pip-version-check -q -c constraints-dev.txt -e '.[browser]' torch==2.13.0
	$(RUN)/python -m pytest -m comfyui tests/comfyui

# Films need no torch, so this is an environment of 250 MB. Their wheels are of Python 3.10 and 3.11.
oldest:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 10), (3, 11)))' || { echo "$$NEEDS_OLD"; exit 1; }
	@test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST) || { echo "$$NEEDS_VENV"; exit 1; }
	sed -nE 's/^(av|numpy|pillow)>=/\1==/p' requirements.txt > $(OLDEST)/lowest.txt
	$(OLDEST)/bin/python -m pip install --disable-pip-version-check -q --only-binary :all: -r $(OLDEST)/lowest.txt \
		psutil pytest pytest-timeout
	$(OLDEST)/bin/python -m pytest tests/video

# torch is named beside the constraints so that no other package can move it.
$(INSTALLED): EXTRAS := dev
$(VENV)/.rendering: EXTRAS := headless
$(INSTALLED) $(VENV)/.rendering: pyproject.toml requirements.txt constraints-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "$$NEEDS_PYTHON"; exit 1; }
	@test -x $(RUN)/python || $(PYTHON) -m venv $(VENV) || { echo "$$NEEDS_VENV"; exit 1; }
	@$(RUN)/python -m pip --version > /dev/null || { echo "$$NEEDS_VENV"; exit 1; }
	@echo "Setting up $(VENV), once: torch and the rest are a download of some gigabytes, which takes minutes."
	$(RUN)/python -m pip install --disable-pip-version-check -q -c constraints-dev.txt -e '.[$(EXTRAS)]' torch==2.13.0
	@touch $@
