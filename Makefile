# Every target does its own set-up: a fresh machine needs Python 3.11+, its venv module and make.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
export PYTHONWARNINGS ?= default

.PHONY: install demo test check format audit bench clean

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip --disable-pip-version-check -qqq install uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
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

lock:
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes \
	  --no-strip-extras --no-emit-index-url --all-extras pyproject.toml -o requirements.lock

clean:
	rm -rf .venv .assetgen
