SHELL  := bash
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
UV     := $(shell command -v uv 2>/dev/null)

# what hundreds of short processes import is compiled once
unexport PYTHONDONTWRITEBYTECODE

# torch has to know the pretend device before it takes the first gradient
ALONE  := promises/test_another_device.py

.PHONY: help setup lint format test test-slow test-device test-processors demo docs bench clean

help: ## print these targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.ready ## make a virtual environment in .venv and install everything but the launchers

$(VENV)/.ready: pyproject.toml constraints.txt
ifneq ($(UV),)
	$(UV) venv --quiet --clear --python $(PYTHON) $(VENV)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) pip install --quiet --compile-bytecode -c constraints.txt -e ".[dev]"
else
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
endif
	@touch $@

lint: setup ## check style, names and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup ## put the code into its style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: setup ## run the tests (under eight minutes on two quiet cores)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" --ignore tests/$(ALONE)
	$(BIN)/python -m pytest -n 2 -m "not slow" tests/$(ALONE)

test-slow: setup ## run the tests that take long (about an hour on two cores)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow --ignore tests/$(ALONE)
	$(BIN)/python -m pytest -n 2 -m slow tests/$(ALONE)

test-processors: setup ## run the tests as older processors would compute them, on one thread and on two (an hour)
	@for set in default:SSE41:1 default:AVX:2 avx2:AVX2:1 avx2:AVX2:2 :AVX512_CORE:1 ::2; do \
	  IFS=: read -r aten onednn threads <<< "$$set"; \
	  echo "== ATEN_CPU_CAPABILITY=$$aten ONEDNN_MAX_CPU_ISA=$$onednn OMP_NUM_THREADS=$$threads"; \
	  env $${aten:+ATEN_CPU_CAPABILITY=$$aten} $${onednn:+ONEDNN_MAX_CPU_ISA=$$onednn} OMP_NUM_THREADS=$$threads \
	    $(BIN)/python -m pytest -n $$((2 / threads)) --dist worksteal -m "not slow" --ignore tests/$(ALONE) || exit 1; \
	done

DEVICE ?= cuda

test-device: setup ## run the tests on another device: DEVICE=cuda (default), cuda:1, or pretend
	CNNPROBE_TEST_DEVICE=$(DEVICE) $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"
	CNNPROBE_TEST_DEVICE=$(DEVICE) $(BIN)/python -m pytest tests/$(ALONE) -m slow

demo: setup ## train a small network on drawn rooms, find what its units respond to, where they look, what they prefer
	$(BIN)/cnnprobe train model=convnet dataset=avatar experiment=demo
	$(BIN)/cnnprobe layers model=convnet
	$(BIN)/cnnprobe topk model=convnet dataset=avatar layer=[conv1,conv2,conv3,conv4] pages=[0]
	$(BIN)/cnnprobe rf-map model=convnet dataset=avatar layer=[conv1,conv2,conv3,conv4] source=latest pages=[0,1,2,4]
	$(BIN)/cnnprobe gbp model=convnet dataset=avatar layer=[conv1,conv2,conv3,conv4] pages=[0,1,2,4]
	$(BIN)/cnnprobe optimize model=convnet dataset=avatar layer=conv4 units=[0,1,2,4] steps=128
	$(BIN)/cnnprobe cam model=convnet dataset=avatar limit=200
	$(BIN)/cnnprobe rsa model=convnet dataset=avatar reference=[labels,pixels] metric=euclidean limit=100
	$(BIN)/cnnprobe train model=shallownet dataset=signals epochs=6
	$(BIN)/cnnprobe perturb model=shallownet dataset=signals layer=[power,logits] bands=4 noise=gain
	$(BIN)/cnnprobe lesion model=convnet dataset=avatar layer=[conv2,conv3,conv4] share=[0.25,0.5,0.75,1] draws=5 limit=400
	$(BIN)/cnnprobe tuning model=convnet layer=conv2
	$(BIN)/cnnprobe transfer model=convnet dataset=avatar dataset.classes=landmark epochs=5 lr=0.02 most_changed=4
	@echo
	@echo "Look at the figures:"
	@ls outputs/*/*/latest/figures/*.png

docs: $(VENV)/.docs ## build the pages of docs/ into docs/_build/html
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

$(VENV)/.docs: $(VENV)/.ready
ifneq ($(UV),)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) pip install --quiet -c constraints.txt -e ".[docs]"
else
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[docs]"
endif
	@touch $@

bench: setup ## measure speed against the bare network and against peers
	$(BIN)/python benchmarks/topk.py
	$(BIN)/python benchmarks/train.py
	$(BIN)/python benchmarks/rf_map.py
	$(BIN)/python benchmarks/gbp.py
	$(BIN)/python benchmarks/optimize.py
	$(BIN)/python benchmarks/cam.py
	$(BIN)/python benchmarks/perturb.py
	$(BIN)/python benchmarks/lesion.py
	$(BIN)/python benchmarks/rsa.py

clean: ## remove what tests and tools leave behind
	rm -rf .pytest_cache .ruff_cache .hypothesis dist build docs/_build docs/generated
