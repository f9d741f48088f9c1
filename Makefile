# Two commands: `make demo` and `make test`. Each installs what it needs into .venv first.
.PHONY: demo test install lint docker-local docker-local-stop clean

install:
	@bash cluster/images/make_venv.sh

demo: install
	@.venv/bin/swe-master demo configs/yaml/demo.yaml $(ARGS)

test: install
	@.venv/bin/python -m pytest $(ARGS)

lint: install
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

docker-local:
	@bash cluster/images/docker_local.sh start

docker-local-stop:
	@bash cluster/images/docker_local.sh stop

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
