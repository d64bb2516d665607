# Two commands: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV ?= .venv
PROFILE ?= embedded
TRAIN = SEARCHSITE_DATA_DIR=$(abspath var/train-default) DATABASE_URL= SEARCHSITE_RERANKER=none $(BIN)/python manage.py
DEFAULT_RERANKER = --source sample --base default --sample-products 25000 --sample-queries 12000 --steps 1200 --rerank-depth 30 --rerank-blend 0.65 $(if $(shell command -v g++),--compile)
DEFAULT_TOWERS = --source sample --base default --sample-products 20000 --sample-queries 12000 --rounds 2 --steps 25 --batch-size 256 --max-tokens 48
BIN := $(VENV)/bin
export PYTHONUNBUFFERED := 1

ifeq ($(PROFILE),services)
export DATABASE_URL ?= postgres:///test
export REDIS_URL ?= redis://127.0.0.1:6379/0
export CELERY_BROKER_URL ?= redis://127.0.0.1:6379/1
else ifneq ($(PROFILE),embedded)
$(error PROFILE=$(PROFILE) is unknown, expected one of: embedded, services)
endif

.DEFAULT_GOAL := help
.PHONY: help demo run test lint fix bench train-default loop services lock clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/installed: requirements.lock
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found: install Python 3.11, or name yours: make demo PYTHON=python3"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	touch $@

$(VENV)/installed-dev: requirements-dev.lock $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.lock
	touch $@

demo: $(VENV)/installed ## Start a sample shop: database, products, index, worker and site
	$(BIN)/python manage.py demo

run: $(VENV)/installed ## Start the site and its worker on the shop in SEARCHSITE_DATA_DIR
	$(BIN)/python manage.py serve

test: $(VENV)/installed-dev ## Run all tests; PROFILE=services runs them on PostgreSQL and Redis
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/installed-dev ## Check style and types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy .

fix: $(VENV)/installed-dev ## Mend what style checks can mend
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

bench: $(VENV)/installed-dev ## Measure and rewrite the tables in README and docs (ARGS names which)
	$(BIN)/python -m bench.run $(ARGS)

train-default: $(VENV)/installed ## Train the models that come with the project anew, on the sample shop (an hour; more without g++)
	rm -rf var/train-default
	$(TRAIN) migrate --verbosity 0
	$(TRAIN) train_reranker --name default-reranker-1 $(DEFAULT_RERANKER)
	$(TRAIN) train_reranker --name default-reranker-2 --seed 2 $(DEFAULT_RERANKER)
	$(TRAIN) train_reranker --name default-reranker --seed 3 --average default-reranker-1,default-reranker-2 $(DEFAULT_RERANKER)
	$(TRAIN) finetune --name default-towers $(DEFAULT_TOWERS)
	mkdir -p retrieval/learning/built_in
	for name in default-reranker default-towers; do \
		rm -rf retrieval/learning/built_in/$$name && \
		cp -r var/train-default/models/versions/$$name retrieval/learning/built_in/ || exit; done

loop: $(VENV)/installed ## Go once around the whole loop: simulated clicks, a model from them, tests, promotion
	rm -rf var/loop
	SEARCHSITE_DATA_DIR=$(abspath var/loop) DATABASE_URL= SEARCHSITE_RERANKER=none SEARCHSITE_RECENT_SEARCHES=5000 \
		$(BIN)/python manage.py close_loop $(ARGS)

services: ## Start the services profile with Docker
	docker compose up --build

lock: $(VENV)/installed-dev ## Resolve pyproject.toml into the lock files anew
	$(BIN)/python -m pip install --quiet pip-tools
	for extra in "" "-dev"; do \
		$(BIN)/pip-compile --quiet --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
			--no-header $${extra:+--extra dev} --output-file requirements$$extra.lock pyproject.toml && \
		sed -i -E 's/^(torch==[0-9.]+)\+cpu/\1/' requirements$$extra.lock; done

clean: ## Remove the environment and all runtime state
	rm -rf $(VENV) var
