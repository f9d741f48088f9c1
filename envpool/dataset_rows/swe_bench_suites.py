"""Test commands of SWE-bench's twelve repositories, for rows of the first dataset card, which carry none.

The facts are those of swebench 4.1.0's table of specifications (MIT), compared with it for each of its repositories and
versions. swebench 5 no longer ships the table: its rows carry their scripts.
"""

from envpool.dataset_rows.repo_suite import RepoSuite

_PIP = "python -m pip install -e ."
_DJANGO = "./tests/runtests.py --verbosity 2 --settings=test_sqlite --parallel 1"
_LANG, _LANGUAGE, _LC_ALL = "export LANG=en_US.UTF-8", "export LANGUAGE=en_US:en", "export LC_ALL=en_US.UTF-8"
_OLD_LOCALE = (_LANG, _LC_ALL, "export PYTHONIOENCODING=utf8", _LANGUAGE)
_NEW_LOCALE = ("sed -i '/en_US.UTF-8/s/^# //g' /etc/locale.gen && locale-gen", _LANG, _LANGUAGE, _LC_ALL)
_SYMPY = "PYTHONWARNINGS='ignore::UserWarning,ignore::SyntaxWarning' bin/test -C --verbose"
_SKLEARN = "python -m pip install -v --no-use-pep517 --no-build-isolation -e ."
_ASTROPY = "python -m pip install -e .[test] --verbose"

SWE_BENCH_SUITES: dict[str, tuple[RepoSuite, ...]] = {
    "astropy/astropy": (
        RepoSuite("pytest -rA -vv -o console_output_style=classic --tb=no", _ASTROPY, "parse_log_pytest_v2"),
        RepoSuite("pytest -rA", _ASTROPY, "parse_log_pytest_v2", since="3.0"),
    ),
    "django/django": (
        RepoSuite(_DJANGO, "python setup.py install", "parse_log_django"),
        RepoSuite(_DJANGO, "python setup.py install", "parse_log_django", _OLD_LOCALE, "1.7"),
        RepoSuite("./tests/runtests.py --verbosity 2", "python setup.py install", "parse_log_django", _OLD_LOCALE, "1.9"),
        RepoSuite(_DJANGO, "python setup.py install", "parse_log_django", _OLD_LOCALE, "1.10"),
        RepoSuite(_DJANGO, _PIP, "parse_log_django", _NEW_LOCALE, "3.0"),
        RepoSuite(_DJANGO, _PIP, "parse_log_django", since="4.0"),
    ),
    "matplotlib/matplotlib": (
        RepoSuite("pytest -rA", "python setup.py build; python setup.py install", "parse_log_matplotlib"),
        RepoSuite("pytest -rA", _PIP, "parse_log_matplotlib", since="3.0"),
        RepoSuite("pytest -rA", 'python -m pip install --no-build-isolation -e ".[dev]"', "parse_log_matplotlib", since="3.8"),
    ),
    "mwaskom/seaborn": (
        RepoSuite("pytest --no-header -rA", _PIP, "parse_log_seaborn"),
        RepoSuite("pytest --no-header -rA", "python -m pip install -e .[dev]", "parse_log_seaborn", since="0.12"),
    ),
    "pallets/flask": (RepoSuite("pytest -rA", _PIP, "parse_log_pytest"),),
    "psf/requests": (RepoSuite("pytest -rA", "python -m pip install .", "parse_log_pytest_options"),),
    "pydata/xarray": (RepoSuite("pytest -rA", _PIP, "parse_log_pytest"),),
    "pylint-dev/pylint": (RepoSuite("pytest -rA", _PIP, "parse_log_pytest_options"),),
    "pytest-dev/pytest": (RepoSuite("pytest -rA", _PIP, "parse_log_pytest"),),
    "scikit-learn/scikit-learn": (RepoSuite("pytest -rA", _SKLEARN, "parse_log_pytest_v2"),),
    "sphinx-doc/sphinx": (
        RepoSuite("tox --current-env -epy39 -v --", "python -m pip install -e .[test]", "parse_log_pytest_v2"),
    ),
    "sympy/sympy": (RepoSuite(_SYMPY, _PIP, "parse_log_sympy"),),
}
