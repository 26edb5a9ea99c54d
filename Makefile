# What `.ci/run` does, piece by piece.

.PHONY: check format lint types test bench docs

check: lint types test

format:
	ruff format .
	ruff check --fix .

lint:
	ruff format --check .
	ruff check .

types:
	mkdir -p build/links/xlsr_live
	ln -sfn $(CURDIR)/streaming $(CURDIR)/server $(CURDIR)/client $(CURDIR)/training build/links/xlsr_live/
	pyright

test:
	pytest

bench:
	xlsr-live bench accuracy
	xlsr-live bench latency

docs:
	python docs/api.py
