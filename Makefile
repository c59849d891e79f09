# Every target does its own set-up: a fresh machine needs Python 3.11+, its venv module and make.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: install demo test check format audit bench soak soak-ledger soak-generation docs pictures lock ledger-release clean

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -W ignore -m pip --disable-pip-version-check -qqq install uv
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@$(BIN)/python -m compileall -q assetgen_pipeline
	@touch $@

demo: install
	@$(BIN)/assetgen demo $(ARGS)

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: install
	$(BIN)/pytest -n 2 --dist loadgroup --cov --cov-report= $(ARGS)
	$(BIN)/coverage report --fail-under=90 --skip-covered --skip-empty
	$(BIN)/coverage report --fail-under=100 --include='assetgen_pipeline/domain/*,assetgen_pipeline/stages/*'

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Outside .ci/run: needs the advisories. What cannot be audited is never called clean.
audit: install
	@$(BIN)/pip-audit --strict --require-hashes --disable-pip -r requirements.lock \
	  || { echo "NOT AUDITED, or not clean: see above"; exit 1; }

bench: install
	@for bench in benchmarks/*.py; do $(BIN)/python $$bench; done

# Hours: both long forms at their full sizes.
soak: soak-ledger soak-generation

# Races and kills of the ledger; `ARGS="--attempts 2000 --kills 50 --turns 2 --examples 500"` for less.
soak-ledger: install
	@$(BIN)/python -m assetgen_pipeline_tests.ledger_soak $(ARGS)

# Minutes of kills against a bad provider; `ARGS="--form short --seed 3"`.
soak-generation: install
	@$(BIN)/python -W ignore -m assetgen_pipeline_tests.generation_soak $(ARGS)

# The tables of commands, settings and metadata; a test fails where they are not what this writes.
docs: install
	@$(BIN)/python -W ignore docs/tables.py

pictures: install
	@$(BIN)/python docs/pictures/take.py

LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url

# The second is what production installs: a part of the first, without tests and tools.
lock:
	$(LOCK) --no-strip-extras --all-extras pyproject.toml -o requirements.lock
	$(LOCK) --strip-extras --no-annotate --extra postgres --extra duckdb -c requirements.lock \
	  pyproject.toml -o requirements.production.lock

# When a release is made: keeps its ledger, so that the next one proves that a rollback works.
ledger-release:
	git archive --format=zip -9 -o assetgen_pipeline_tests/adapters/ledger_releases/$(RELEASE).zip HEAD \
	  assetgen_pipeline/__init__.py assetgen_pipeline/domain assetgen_pipeline/ports \
	  assetgen_pipeline/adapters/__init__.py assetgen_pipeline/adapters/system_clock.py \
	  assetgen_pipeline/adapters/migrations $$(git ls-files 'assetgen_pipeline/adapters/sql_ledger*')

clean:
	rm -rf .venv .assetgen
