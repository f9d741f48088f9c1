"""Test commands of SWE-Gym's repositories: its rows carry none, its harness looks them up by repository and version.

The facts are those of the table in SWE-Gym's fork of swebench (2.0.13, MIT), which lists mypy from 0.800 on. Install commands
need the network; offline they fail and the tests run on what the image has installed.
"""

from envpool.dataset_rows.repo_suite import RepoSuite

PYTEST = "parse_log_pytest"
VERBOSE = "parse_log_pytest_verbose"
_MYPY = "python -m pip install -r test-requirements.txt; python -m pip install -e .; "
_CONAN = "".join(f"python -m pip install -r conans/requirements{name}.txt; " for name in ("", "_server", "_dev"))[:-2] + " "
_OLD_CYTHON = "echo 'cython<3' > /tmp/constraint.txt; export PIP_CONSTRAINT=/tmp/constraint.txt; "
_CONAN_PATH = ("export PYTHONPATH=${PYTHONPATH:-}:$(pwd)",)
_MONAI = (
    r"sed -i '/^git+https:\/\/github.com\/Project-MONAI\//d' requirements-dev.txt; "
    "python -m pip install types-pkg-resources==0.1.3 pytest; pip install -r requirements-dev.txt;python setup.py develop;"
)
_DVC = (
    'python -m pip install --upgrade pip wheel GitPython; python -m pip install "cython<3.0.0" && '
    "python -m pip install --no-build-isolation pyyaml==5.4.1; "
    "python -m pip install git+https://github.com/iterative/mock-ssh-server.git || true; "
    "python -m pip install -r tests/requirements.txt || true; python -m pip install -r test-requirements.txt || true; "
    'python -m pip install -e ".[tests,dev,all_remotes,all,testing]";'
)
_OLD_DVC = _DVC + ' python -m pip install "numpy<=1.20"; python -m pip install "pytest<8";'
_OLD_BOKEH = 'pip install "setuptools<66" "jinja2<3.1"; printf "1\n" | python setup.py develop; bokeh sampledata;'
_MODIN = "python -m pip install -e .;"
_HYPOTHESIS = "python -m pip install -r requirements/test.txt; python -m pip install -e hypothesis-python/;"
_PYDANTIC = "pytest -rA --tb=short -vv -o console_output_style=classic --no-header"
_PANDAS = "python -m pip install -ve . --no-build-isolation -Ceditable-verbose=true; pip uninstall pytest-qt -y;"
_HYDRA = "pip install -r requirements/dev.txt; pip install -e .;"
_OLD_HYDRA = (
    "sed -i 's|isort@git+git://github.com/timothycrosley/isort|isort@git+https://github.com/timothycrosley/isort|g' "
    'requirements/dev.txt; { tail -n1 requirements/requirements.txt | grep -q "." && echo ""; } >> '
    'requirements/requirements.txt; echo "pip==24.0" >> requirements/requirements.txt;pip install "pip==24.0"; '
)

SWE_GYM_SUITES: dict[str, tuple[RepoSuite, ...]] = {
    "bokeh/bokeh": (
        RepoSuite("pytest -rA -n0", _OLD_BOKEH, PYTEST),
        RepoSuite("pytest -rA -n0", "python -m pip install -e .; python -m pip install bokeh_sampledata;", PYTEST, since="3.0"),
    ),
    "conan-io/conan": (
        RepoSuite("pytest -n0 -rA", _OLD_CYTHON + _CONAN, PYTEST, _CONAN_PATH),
        RepoSuite("pytest -n0 -rA", _CONAN, PYTEST, _CONAN_PATH, "1.60"),
        RepoSuite("pytest -n0 -rA", _OLD_CYTHON + _CONAN, PYTEST, _CONAN_PATH, "2.0"),
        RepoSuite("pytest -n0 -rA", _CONAN, PYTEST, _CONAN_PATH, "2.1"),
    ),
    "dask/dask": (RepoSuite("pytest -n0 -rA  --color=no", "python -m pip install --no-deps -e .", PYTEST),),
    "facebookresearch/hydra": (
        RepoSuite("pytest -rA --tb=long", _OLD_HYDRA + _HYDRA, PYTEST),
        RepoSuite("pytest -rA --tb=long", _HYDRA, PYTEST, since="1.3"),
    ),
    "getmoto/moto": (RepoSuite("pytest -n0 -rA", "make init", PYTEST),),
    "hypothesisworks/hypothesis": (RepoSuite("pytest -n0 -rA --tb=no --no-header", _HYPOTHESIS, PYTEST),),
    "iterative/dvc": (
        RepoSuite("pytest -rA", _OLD_DVC, PYTEST),
        RepoSuite("pytest -rA", _DVC, PYTEST, since="3.4"),
    ),
    "modin-project/modin": (
        RepoSuite("pytest -n0 -rA", f"{_MODIN} python -m pip install numpy==1.23.1 protobuf==3.20.1;", PYTEST),
        RepoSuite("pytest -n0 -rA", _MODIN, PYTEST, since="0.20"),
    ),
    "pandas-dev/pandas": (
        RepoSuite("pytest -rA --tb=long", f"python -m pip install 'numpy<2'; {_PANDAS}", PYTEST),
        RepoSuite("pytest -rA --tb=long", _PANDAS, PYTEST, since="2.2"),
    ),
    "project-monai/monai": (RepoSuite("pytest -rA", _MONAI, PYTEST),),
    "pydantic/pydantic": (
        RepoSuite(
            _PYDANTIC, 'export PATH="$HOME/.local/bin:$PATH"; pdm add pre-commit; make install;', VERBOSE
        ),  # pytest-pretty draws its own summary; the progress lines are plain
    ),
    "python/mypy": (
        RepoSuite("pytest -n0 -rA -k", f"{_MYPY}pip install pytest pytest-xdist; hash -r;", PYTEST, since="0.800"),
        RepoSuite("pytest -n0 -rA -k", f"{_MYPY}pip install pytest pytest-xdist; hash -r", PYTEST, since="0.940"),
        RepoSuite("pytest -n0 -rA -k", f"{_MYPY}hash -r", PYTEST, since="1.0"),
        RepoSuite("pytest -rA -k", f"{_MYPY}hash -r", PYTEST, since="1.7"),
    ),
}
