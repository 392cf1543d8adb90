# Every target does all of its set-up: a fresh clone needs nothing but Python 3.11 and make.
PYTHON ?= python3
SETUP = pyproject.toml constraints.txt Makefile

.PHONY: test test-all lint demo bench speed results samples clean

test: .venv/stamp lint
	.venv/bin/python -m pytest -q -m "not slow"

# The page is tested where chromium is installed (apt-get install chromium).
test-all: .venv/stamp lint
	.venv/bin/python -m pytest -q

lint: .venv/stamp
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

# The demo gets an environment of its own, without PyTorch: that it works there is the point.
demo: .venv-demo/stamp
	.venv-demo/bin/littlefoot demo

# All bundled models in one table, and into RESULTS.md where the test sets are at hand.
DATA ?= ../shared/data
SETS = $(wildcard $(DATA)/*/manifest.tsv)
bench: .venv/stamp
	.venv/bin/littlefoot bench $(SETS:%=--data %) $(if $(SETS),--markdown RESULTS.md) \
		--json runs/bench.json --html runs/bench.html

# Our engines against others, on random weights of known sizes.
speed: .venv/stamp
	.venv/bin/python benchmarks/speed.py base
	.venv/bin/python benchmarks/speed.py large --rounds 7
	.venv/bin/python benchmarks/speed.py front-end
	.venv/bin/python benchmarks/speed.py bigfoot --rounds 7
	.venv/bin/python benchmarks/process.py

# Error rates of the bundled model, into RESULTS.md.
results: .venv/stamp
	.venv/bin/python benchmarks/accuracy.py $(DATA) --write RESULTS.md

# The bundled clips are synthesised; needs espeak-ng and flite.
samples: .venv/stamp
	.venv/bin/python scripts/make_samples.py

.venv/stamp: $(SETUP)
	$(PYTHON) -m venv --clear .venv
	.venv/bin/pip install --quiet -c constraints.txt -e ".[train,onnxruntime,bench,media,vad,serve,dev]"
	touch $@

.venv-demo/stamp: $(SETUP)
	$(PYTHON) -m venv --clear .venv-demo
	.venv-demo/bin/pip install --quiet -c constraints.txt -e .
	touch $@

clean:
	rm -rf .venv .venv-demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
