# Every target does all of its set-up: a fresh clone needs nothing but Python 3.11 and make.
PYTHON ?= python3
SETUP = pyproject.toml constraints.txt Makefile

.PHONY: test test-all lint demo bench results samples clean

test: .venv/stamp lint
	.venv/bin/python -m pytest -q -m "not slow"

test-all: .venv/stamp lint
	.venv/bin/python -m pytest -q

lint: .venv/stamp
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

# The demo gets an environment of its own, without PyTorch: that it works there is the point.
demo: .venv-demo/stamp
	.venv-demo/bin/littlefoot demo

bench: .venv/stamp
	.venv/bin/python benchmarks/speed.py base
	.venv/bin/python benchmarks/speed.py large --rounds 7
	.venv/bin/python benchmarks/speed.py front-end
	.venv/bin/python benchmarks/speed.py student --rounds 7
	.venv/bin/python benchmarks/process.py

# Error rates of the bundled model, into RESULTS.md.
DATA ?= ../shared/data
results: .venv/stamp
	.venv/bin/python benchmarks/accuracy.py $(DATA) --write RESULTS.md

# The bundled clips are synthesised; needs espeak-ng and flite.
samples: .venv/stamp
	.venv/bin/python scripts/make_samples.py

.venv/stamp: $(SETUP)
	$(PYTHON) -m venv --clear .venv
	.venv/bin/pip install --quiet -c constraints.txt -e ".[train,onnxruntime,bench,serve,dev]"
	touch $@

.venv-demo/stamp: $(SETUP)
	$(PYTHON) -m venv --clear .venv-demo
	.venv-demo/bin/pip install --quiet -c constraints.txt -e .
	touch $@

clean:
	rm -rf .venv .venv-demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
