"""What a wheel has in it, and what the changelog says of it."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_module_is_in_a_package_of_the_wheel() -> None:
    assert PROJECT["tool"]["setuptools"]["packages"]["find"] == {"include": ["zoo", "zoo.*"]}
    # A folder without this file is no package to setuptools.
    assert not [file for file in (ROOT / "zoo").rglob("*.py") if not file.with_name("__init__.py").is_file()]
    # Modules alone: nothing in zoo/ has to be named as data of a package.
    assert {file.suffix for file in (ROOT / "zoo").rglob("*") if file.is_file()} <= {".py", ".pyc"}


def test_the_changelog_has_this_version() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## {PROJECT['project']['version']}\n" in changes
