# Every target does all of its set-up: a fresh clone needs nothing but Python 3.11 and make.
PYTHON ?= python3
SETUP = pyproject.toml constraints.txt Makefile
# Where venv puts programs.
BIN = $(if $(filter Windows_NT,$(OS)),Scripts,bin)

.PHONY: test test-all attack attack-long attack-kills attack-api endurance lint docs demo web-demo wasm fuzz bench family speed results samples clean

# A worker for each core. The tests of a file stay together, since they share what is slow to make; libraries that
# would start a thread for each core start one.
test: export OMP_NUM_THREADS = 1
test: .venv/native .venv/liblittlefoot/built lint
	.venv/$(BIN)/python -m pytest -q -m "not slow" -n auto --maxprocesses 8 --dist loadfile

# The page is tested where chromium is installed (apt-get install chromium).
test-all: .venv/native .venv/liblittlefoot/built lint
	.venv/$(BIN)/python -m pytest -q

# Damaged and hostile input for all readers: five minutes, or a million tries. The table goes into the page.
attack: .venv/native
	.venv/$(BIN)/python tests/attack/campaign.py --minutes 5

attack-long: .venv/native
	.venv/$(BIN)/python tests/attack/campaign.py --tries 1000000 --jobs 2 --write docs/reliability.md

# Real commands, killed at random moments.
attack-kills: .venv/native
	.venv/bin/python tests/attack/kills.py --kills 30 --write docs/reliability.md

# The server against its own description. Schemathesis gets an environment of its own, since it is a pytest plugin.
attack-api: .venv/native
	test -d .venv-api || $(PYTHON) -m venv .venv-api
	.venv-api/bin/pip install --quiet schemathesis==4.32.5
	.venv/bin/python tests/attack/api.py .venv-api/bin/schemathesis --write docs/reliability.md

# Two hours of one live stream, thirty streams at once, two thousand lengths, with the memory sampled.
endurance: .venv/native
	.venv/bin/python tests/attack/endurance.py lengths stream streams --write docs/reliability.md

lint: .venv/stamp
	.venv/$(BIN)/ruff check .
	.venv/$(BIN)/ruff format --check .
	.venv/$(BIN)/mypy
	.venv/$(BIN)/python scripts/lint_words.py

# The documentation as a site in site/. A warning, such as a link that leads nowhere, is an error; no network is needed.
docs: .venv/stamp
	NO_MKDOCS_2_WARNING=true .venv/$(BIN)/mkdocs build --strict --quiet

# The demo gets an environment of its own, without PyTorch: that it works there is the point.
demo: .venv-demo/stamp
	.venv-demo/$(BIN)/littlefoot demo

# The page that recognises in the browser, with the bundled streaming model, at http://127.0.0.1:8000.
web-demo: .venv-demo/stamp
	rm -rf build/web-demo
	.venv-demo/$(BIN)/littlefoot export littlefoot-en-live -o build/web-demo --to web
	.venv-demo/$(BIN)/python -m http.server 8000 --bind 127.0.0.1 --directory build/web-demo

# The C library for that page; needs Debian's clang-19, lld-19 and emscripten. Commit what it writes.
wasm:
	$(PYTHON) scripts/build_wasm.py

# Damaged model files and hostile samples for the C library, under the sanitizers; needs clang. A fault ends it, and
# leaves the file that shows it in build/fuzz. The seconds are of processor time, for each of two targets.
FUZZ_SECONDS ?= 600
fuzz: .venv/stamp
	PYTHONPATH=tests/support .venv/$(BIN)/python tests/attack/fuzz.py build/fuzz --seconds $(FUZZ_SECONDS)

# All bundled models in one table, on the test sets where they are at hand.
DATA ?= ../shared/data
SETS = $(wildcard $(DATA)/*/manifest.tsv)
bench: .venv/native
	.venv/$(BIN)/littlefoot bench $(SETS:%=--data %) --json runs/bench.json --html runs/bench.html

# The bundled models again from littlefoot-en, and their errors: about 380 hours of speech to train on, half a day on
# two processor cores. What is there already is not made again; scripts/family.py has options.
family: .venv/native
	.venv/$(BIN)/python scripts/family.py --data $(DATA)

# Our engines against others, on random weights of known sizes.
speed: .venv/native
	.venv/$(BIN)/python benchmarks/speed.py base
	.venv/$(BIN)/python benchmarks/speed.py large --rounds 7
	.venv/$(BIN)/python benchmarks/speed.py front-end
	.venv/$(BIN)/python benchmarks/speed.py bigfoot s3 s5 s5-small --rounds 7
	.venv/$(BIN)/python benchmarks/process.py
	.venv/$(BIN)/python benchmarks/native.py kernels
	.venv/$(BIN)/python benchmarks/native.py model
	.venv/$(BIN)/python benchmarks/native.py memory

# RESULTS.md, docs/measurements.md and README.md's table, of the files in results/.
results: .venv/stamp
	.venv/$(BIN)/python scripts/results.py

# The bundled clips are synthesised; needs espeak-ng and flite.
samples: .venv/stamp
	.venv/$(BIN)/python scripts/make_samples.py

.venv/stamp: $(SETUP)
	$(PYTHON) -m venv --clear .venv
	.venv/$(BIN)/pip install --quiet -c constraints.txt -e ".[standard,train,onnxruntime,bench,media,vad,serve,wyoming,scale,normalize,docs,dev]"
	touch $@

# The native kernels, where there is a C++ compiler; their tests say why they are skipped where there is none.
.venv/native: .venv/stamp $(wildcard native/*.* native/include/* native/src/* native/src/lib/* native/littlefoot_native/*.py)
	@if command -v c++ g++ clang++ > /dev/null; then \
		.venv/$(BIN)/pip install --quiet ./native; \
	else \
		echo "no C++ compiler: the native kernels are not built, and their tests are skipped"; \
	fi
	touch $@

# The C library and the programs that its tests run, likewise.
.venv/liblittlefoot/built: .venv/stamp $(wildcard native/*.* native/include/* native/src/* native/src/*/* native/tests/*)
	@if command -v cmake > /dev/null && command -v c++ g++ clang++ > /dev/null; then \
		cmake -S native -B .venv/liblittlefoot -DCMAKE_BUILD_TYPE=Release -DCHECKS=ON > /dev/null && \
		cmake --build .venv/liblittlefoot -j 2 > /dev/null && touch $@; \
	else \
		echo "no C++ compiler or cmake: liblittlefoot is not built, and its tests are skipped"; \
	fi

.venv-demo/stamp: $(SETUP)
	$(PYTHON) -m venv --clear .venv-demo
	.venv-demo/$(BIN)/pip install --quiet -c constraints.txt -e ".[standard]"
	touch $@

clean:
	rm -rf .venv .venv-demo .venv-api site .pytest_cache .mypy_cache .ruff_cache .hypothesis
