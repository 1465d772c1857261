"""What a wheel and a source distribution have in them."""

import tomllib
from pathlib import Path

from setuptools import find_packages

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_module_is_in_a_package_of_the_wheel() -> None:
    packages = find_packages(str(ROOT), **PROJECT["tool"]["setuptools"]["packages"]["find"])
    folders = {file.parent.relative_to(ROOT) for file in (ROOT / "zoo").rglob("*.py")}
    assert sorted(".".join(folder.parts) for folder in folders) == sorted(packages)
    # Modules alone: nothing in zoo/ has to be named as data of a package.
    assert {file.suffix for file in (ROOT / "zoo").rglob("*") if file.is_file()} <= {".py", ".pyc"}


def test_the_changelog_has_this_version() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## {PROJECT['project']['version']}\n" in changes
