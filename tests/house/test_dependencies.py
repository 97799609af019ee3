"""Imports against pyproject.toml: what is imported is declared, and untested majors are kept out."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
OPTIONAL = {
    "flow_factory",
    "lerobot",
    "pandas",
    "pyiqa",
    "stable_baselines3",
    "tensorboard",
    "torchmetrics",
    "trackio",
    "wandb",
}
"""Imported only where a user asks for them by name, or measured where they are installed."""


def named(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def bounds(requirement: str) -> str:
    return requirement.partition(">=")[2]


CORE = {named(one) for one in PROJECT["dependencies"]}
USERS = CORE | {named(one) for extra, ones in EXTRAS.items() if extra != "dev" for one in ones}


def imported() -> Iterator[tuple[str, str]]:
    """(top module, file) of every import that is neither ours nor the standard library's."""
    for top in ("mmreward", "generators", "evals"):
        for file in sorted((ROOT / top).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and not node.level:
                    names = [node.module or ""]
                for name in names:
                    module = name.partition(".")[0]
                    if module not in sys.stdlib_module_names and module != "mmreward":
                        yield module, str(file.relative_to(ROOT))


def test_every_package_that_is_imported_is_declared() -> None:
    distributions = packages_distributions()
    missing = {
        (module, file)
        for module, file in imported()
        if module not in OPTIONAL
        and not {name.lower().replace("_", "-") for name in distributions.get(module, [module])} & USERS
    }
    assert not missing


def test_an_import_at_the_top_of_a_module_of_the_core_is_no_extra() -> None:
    """torch, av, ... are there for all; trl, ray and fastapi are imported where they are used."""
    assert {"av", "huggingface-hub", "tokenizers", "markupsafe", "torch", "pillow"} <= CORE


DECLARED = [
    *PROJECT["dependencies"],
    *(one for name, ones in EXTRAS.items() if name != "dev" for one in ones),
]


@pytest.mark.parametrize("line", DECLARED)
def test_untested_majors_are_not_installed(line: str) -> None:
    """The next major of any package may break this one; `.ci/packaging.py` runs both ends of these ranges."""
    assert re.search(r">=[\d.]+,<[\d.]+$", line), f"{line}: the oldest that works, the first untried"


def test_developers_have_what_users_may_have() -> None:
    """An extra of users and `dev` agree on the range of every package that both name."""
    ranges = {named(one): bounds(one) for one in DECLARED}
    differ = [one for one in EXTRAS["dev"] if ranges.get(named(one), bounds(one)) != bounds(one)]
    assert not differ


def test_the_installed_versions_are_allowed() -> None:
    """What the suite runs on is what is promised."""
    from importlib.metadata import PackageNotFoundError, version

    from packaging.requirements import Requirement

    for line in PROJECT["dependencies"]:
        requirement = Requirement(line)
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            pytest.fail(f"{requirement.name} is declared and not installed")
        assert requirement.specifier.contains(installed, prereleases=True), line
