"""Print what this Python lacks of pyproject.toml's dependencies; print nothing where it has all."""

import argparse
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("extras", nargs="*", metavar="EXTRA", help="such as dev: its own as well")
    extras = parser.parse_args().extras
    if not (3, 11) <= sys.version_info < (3, 14):
        print(f"a Python from 3.11 to 3.13 (it is {sys.version.split()[0]})")
        return
    import tomllib

    text = Path(__file__).parents[1].joinpath("pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    wanted, optional = list(project["dependencies"]), project["optional-dependencies"]
    for extra in extras:
        if extra not in optional:
            parser.error(f"{extra!r} is no extra of pyproject.toml; expected {', '.join(optional)}")
        wanted += optional[extra]
    print(", ".join(lacking(wanted)))


def lacking(wanted: list[str]) -> list[str]:
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return ["packaging"]
    return [text for text in wanted if not satisfied(Requirement(text))]


def satisfied(requirement) -> bool:  # type: ignore[no-untyped-def]
    try:
        return version(requirement.name) in requirement.specifier
    except PackageNotFoundError:
        return False


if __name__ == "__main__":
    main()
