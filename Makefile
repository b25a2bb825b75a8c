# make demo    train and compare the four embedded experiments
# make notes   try every claim of the notes: experiments/notes/RESULTS.md
# make bench   tfzoo beside others, on this machine: runs/bench/bench.md
# make test    the whole test suite
# make exhaustive   pairs of a kind of which make test runs some
# make check   what every commit should pass: format, lint, types, floors, fast tests

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo notes bench test exhaustive check format clean

# As many test processes as cores, and one that mostly waits for SLURM: threads of their own would only get in the way.
test exhaustive check: export OMP_NUM_THREADS = 1

demo: $(VENV)/demo.installed
	$(BIN)/tfzoo demo

notes: $(VENV)/demo.installed
	$(BIN)/python experiments/notes/notes.py

bench: $(VENV)/bench.installed
	$(BIN)/python experiments/speed/bench.py

test: $(VENV)/dev.installed
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

exhaustive: $(VENV)/dev.installed
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m exhaustive

check: $(VENV)/dev.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 -m "not slow and not gpu"

format: $(VENV)/dev.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The mark is written last: an installation that was interrupted is taken up again.
$(VENV)/%.installed: pyproject.toml constraints.txt
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
