# greenroom: every task of the desk and of CI. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The first interpreter that runs and is new enough; PYTHON=... names another.
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)

VENV := .venv
BIN := $(VENV)/bin
DATASTAR := build/datastar/datastar.js
HEADING := build/heading/heading.ttf
QUICK := -m "not slow and not browser"
# How many processes share the tests; one that is done takes over from the others. A test often
# waits, for a program or a deadline: two more use what two leave of two cores. 0 is none but
# pytest's own, as a debugger wants it.
WORKERS ?= 4
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# The suite starts some hundreds of interpreters; compiled anew in each, the project costs a second
# and a half a time. What is kept lies in `__pycache__`, which git ignores.
unexport PYTHONDONTWRITEBYTECODE

# $(call step,name,command): run it; when it is red, say so with the command to repeat.
define step
@echo "== $(1)"; $(2) || { echo; echo "red: $(1). Repeat it with:  $(2)"; exit 1; }
endef

.PHONY: help run test check format bench soak conformance conformance-clients conformance-rules kafka opensearch walk clean chromium

help: ## list the tasks
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

run: $(VENV)/run.stamp $(DATASTAR) $(HEADING) ## start the site on http://127.0.0.1:3000
	@exec $(BIN)/python -m web.cli serve

test: $(VENV)/dev.stamp $(DATASTAR) $(HEADING) chromium ## run the whole suite; TESTS=... runs a part (Chromium is installed when possible)
	$(call step,tests,$(PYTEST) --durations=10 $(TESTS))

check: $(VENV)/dev.stamp $(DATASTAR) $(HEADING) ## format, lint, types, layers, the quick tests
	$(call step,format,$(BIN)/ruff format --check .)
	$(call step,lint,$(BIN)/ruff check .)
	$(call step,types,$(BIN)/mypy)
	$(call step,layers,$(BIN)/python -m pytest -q tests/architecture)
	$(call step,quick tests,$(PYTEST) -q $(QUICK) --ignore=tests/architecture)

format: $(VENV)/dev.stamp ## rewrite the files as the gate wants them
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	$(BIN)/python -m tests.docs.requirements
	$(BIN)/python -m tests.docs.api
	$(BIN)/python -m tests.docs.errors

bench: $(VENV)/bench.stamp $(DATASTAR) $(HEADING) ## measure, with peers; ONLY=name runs one; writes build/bench.json
	$(BIN)/python -m tests.bench $(ONLY)

soak: $(VENV)/dev.stamp $(DATASTAR) $(HEADING) ## repeat the proofs for long; ONLY=name runs one, MINUTES=n shortens; writes build/soak.json
	@$(BIN)/python -m tests.soak $(ONLY)

conformance: $(VENV)/dev.stamp $(DATASTAR) $(HEADING) ## play random scenarios on Erlang's supervisor and on ours (SEED=n repeats one); the client in React and TypeScript; axe on every page; Autobahn, h2spec, nginx, HAProxy, an OpenID provider, Jaeger, a new program and the learning paths on a clean machine (ONLY=name runs one)
	@if [ -z "$(ONLY)" ]; then $(BIN)/python -m tests.conformance; fi
	@bash tests/conformance/outside/fetch.sh
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory build/conformance/oidc-provider/stamp; fi
	@$(BIN)/python -m tests.conformance.outside
	@if [ -n "$(ONLY)" ]; then exit; fi; $(MAKE) --no-print-directory conformance-clients; $(MAKE) --no-print-directory conformance-rules; $(MAKE) --no-print-directory kafka; $(MAKE) --no-print-directory opensearch

walk: $(VENV)/dev.stamp ## walk the learning paths as a newcomer does, in an environment of its own; ONLY=first-steps walks one
	@$(BIN)/python -m tests.docs.learning.walker $(ONLY)

kafka: $(VENV)/dev.stamp ## fetch a Kafka broker from Maven Central (45 MB) and run the bus's and ticketing's tests on it; KAFKA_BROKERS names another
	@if [ -z "$(KAFKA_BROKERS)" ] && command -v java >/dev/null && command -v mvn >/dev/null; then \
		$(MAKE) --no-print-directory build/kafka/stamp; fi
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory build/kafka/clients/stamp; fi
	@test ! -f build/kafka/stamp || export KAFKA_JARS=build/kafka; \
		$(BIN)/python -m pytest -q -rs tests/storage/test_bus_kafka*.py tests/examples/ticketing/http/test_ticketing_kafka.py || [ $$? = 5 ]

opensearch: $(VENV)/dev.stamp ## fetch a search server from Maven Central (44 MB) and run the read models' tests on it; SEARCH_URL, with SEARCH_TLS_CA, names another
	@if [ -z "$(SEARCH_URL)" ] && command -v java >/dev/null && command -v mvn >/dev/null; then \
		$(MAKE) --no-print-directory build/opensearch/stamp; fi
	@test ! -f build/opensearch/stamp || export SEARCH_JARS=build/opensearch; \
		$(BIN)/python -m pytest -q -rs tests/storage/search || [ $$? = 5 ]

build/opensearch/stamp: tests/conformance/search/pom.xml
	@mvn -q -f $< dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=$(CURDIR)/build/opensearch
	@touch $@

build/kafka/stamp: tests/conformance/kafka/pom.xml
	@mvn -q -f $< dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=$(CURDIR)/build/kafka
	@touch $@

build/conformance/oidc-provider/stamp: tests/conformance/outside/provider/package-lock.json
	@mkdir -p $(@D) && cp tests/conformance/outside/provider/*.json $(@D)/
	@npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

build/kafka/clients/stamp: tests/conformance/kafka/clients/package-lock.json
	@mkdir -p build/kafka/clients && cp tests/conformance/kafka/clients/*.json build/kafka/clients/
	@npm ci --prefix build/kafka/clients --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

conformance-clients: $(VENV)/dev.stamp
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory build/node/stamp; fi
	@$(BIN)/python -m pytest -q -rs tests/web/client tests/journeys/test_browser_axe.py

# Prometheus's own judgement of the rules; "not run" where it is not installed.
conformance-rules: $(VENV)/dev.stamp
	@$(BIN)/python -m pytest -q -rs tests/web/observability/metrics/test_alert_rules.py tests/journeys/test_prometheus.py

build/node/stamp: tests/web/client/packages/package-lock.json
	@mkdir -p build/node && cp tests/web/client/packages/*.json build/node/
	@npm ci --prefix build/node --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

clean: ## remove what was made here: environment, caches, build; data in .greenroom stay
	rm -rf $(VENV) build .mypy_cache .pytest_cache .ruff_cache .hypothesis

chromium:
	@bash tests/journeys/install_chromium.sh

# A stamp is a copy of the lock that was installed: one that is only written anew, as by another
# checkout, asks no registry.
install = cmp -s requirements/$(1).lock $(VENV)/$(1).stamp || { $(BIN)/python -m pip install --quiet \
	--disable-pip-version-check --require-hashes -r requirements/$(1).lock && \
	cp requirements/$(1).lock $(VENV)/$(1).stamp; }

$(VENV)/run.stamp: requirements/run.lock
	@test -n "$(PYTHON)" || { echo "greenroom needs Python 3.11 or newer; none was found. Name one: make PYTHON=/path/to/python"; exit 2; }
	@test -e $@ || echo "greenroom: setting up $(VENV) with $(PYTHON)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(call install,run)
	@touch $@

$(VENV)/dev.stamp: requirements/dev.lock $(VENV)/run.stamp
	@$(call install,dev)
	@touch $@

$(VENV)/bench.stamp: requirements/bench.lock $(VENV)/dev.stamp
	@$(call install,bench)
	@touch $@

# Each program names what it fetches: another one is fetched when that changes. What is there and
# still the right one is kept, without network.
$(DATASTAR): web/views/fetched/browser_runtime.py | $(VENV)/run.stamp
	@$(BIN)/python -m web.views.fetched.browser_runtime build/datastar && touch $@

# A site without it shows the system's serif, and says so.
$(HEADING): web/views/fetched/heading_font.py | $(VENV)/run.stamp
	@$(BIN)/python -m web.views.fetched.heading_font build/heading && touch $@ || true
