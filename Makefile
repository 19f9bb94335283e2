PY := .venv/bin/python

.PHONY: install lint types unit test
install: .venv/.installed
.venv/.installed: pyproject.toml
	python3 -m venv .venv
	$(PY) -m pip install -q -U pip
	$(PY) -m pip install -q -e '.[postgres]' --group dev
	touch $@
