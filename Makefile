# Two commands: `make demo` and `make test`. Each installs what it needs into .venv first.
.PHONY: demo test install lint docker-local docker-local-stop clean

install:
	@bash cluster/images/make_venv.sh

# The demo also makes tasks from a real package; without a network it goes on without them.
SDIST := .cache/sdists/iniconfig-2.3.0.tar.gz
$(SDIST):
	@python3 cluster/images/pypi_fetch.py sdist iniconfig 2.3.0 .cache/sdists >/dev/null 2>&1 \
		|| echo "demo: could not fetch iniconfig's source; no tasks from a package this time"

demo: install $(SDIST)
	@.venv/bin/swe-master demo configs/yaml/demo.yaml $(patsubst %,tasks.package.sources=[%],$(wildcard $(SDIST))) $(ARGS)

test: install
	@.venv/bin/python -m pytest $(ARGS)

lint: install
	.venv/bin/ruff check --no-cache .
	.venv/bin/ruff format --no-cache --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

docker-local:
	@bash cluster/images/docker_local.sh start

docker-local-stop:
	@bash cluster/images/docker_local.sh stop

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
