# The two commands of the README. PYTHON chooses the interpreter (3.11 to 3.13).
PYTHON ?= python3
BIN := .venv/bin
DEMO := runs/demo

.PHONY: demo test lint docs address clean

demo: .venv/installed
	$(BIN)/dualrel train $(DEMO) --data phantom --steps 600
	$(BIN)/python -m dualrel_jax.data.phantom $(DEMO)/stack.tif
	$(BIN)/dualrel predict $(DEMO) $(DEMO)/stack.tif
	@echo; cat $(DEMO)/summary.txt

test: .venv/installed-dev
	$(BIN)/python -m pytest -q -n 2

lint: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

docs: .venv/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "The site is in build/site/index.html."

# make address URL=https://...: where the repository is, for the site and the notebooks.
address:
	sed -i 's|^repo_url: "[^"]*"|repo_url: "$(URL)"|' mkdocs.yml
	sed -i 's|repository = \\"[^"\\]*\\"|repository = \\"$(URL)\\"|' colab/*.ipynb

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv build *.egg-info
