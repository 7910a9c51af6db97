"""A YAML file, read with care and checked against a schema: every mistake is one clear line."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from bnorder.errors import UserError

LARGEST_FILE = 1_000_000  # bytes; a study is a page of text


def read_yaml(path: str | Path) -> Any:
    """Parse a small YAML file; raises UserError when it is unreadable or no YAML."""
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UserError(f"{path}: larger than {LARGEST_FILE:,} bytes; expected a page of YAML")
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_PlainLoader)
    except FileNotFoundError:
        beside = sorted(p.stem for p in path.parent.glob("*.yaml"))
        hint = f"; there are: {', '.join(beside)}" if beside else ""
        raise UserError(f"{path}: no such file{hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); expected UTF-8 YAML") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(f"{path}{where}: no valid YAML ({problem})") from None
    except RecursionError:
        raise UserError(f"{path}: nested too deeply; expected a page of YAML") from None


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases (which can grow without bound) and without repeated keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, "aliases (*name) are not accepted", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, (str, int, float, bool)):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be a plain word", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 1e-3 as a string; people mean the number.
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)$"),
    list("-+0123456789."),
)


def check_against_schema(raw: object, schema: Mapping[str, Any], path: str | Path) -> None:
    """Raise UserError on the first thing in `raw` that the JSON schema does not allow."""
    problems = jsonschema.Draft202012Validator(schema).iter_errors(raw)
    error = jsonschema.exceptions.best_match(problems)
    if error is not None:
        raise UserError(f"{path}: {_describe(error)}")


def _describe(error: jsonschema.ValidationError) -> str:
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error.absolute_path)
    where = where.lstrip(".")[:120] or "the file"
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = sorted(_rules(error).get("properties", {}))
        unknown = [str(k)[:60] for k in error.instance if k not in known]
        return f"{where}: unknown key {unknown[0]!r}; expected one of {', '.join(known)}"
    if error.validator == "required" and isinstance(error.instance, dict):
        missing = [k for k in _value(error) if k not in error.instance]
        return f"{where}: the key {missing[0]!r} is missing"
    return f"{where} is {_short(error.instance)}; expected {_expected(error)}"


def _expected(error: jsonschema.ValidationError) -> str:
    value = _value(error)
    words: dict[str, Callable[[], str]] = {
        "type": lambda: " or ".join(value) if isinstance(value, list) else f"{value}",
        "enum": lambda: "one of " + ", ".join(map(str, value)),
        "minimum": lambda: f"at least {value}",
        "maximum": lambda: f"at most {value}",
        "exclusiveMinimum": lambda: f"more than {value}",
        "exclusiveMaximum": lambda: f"less than {value}",
        "minItems": lambda: f"a list of at least {value} item",
        "minLength": lambda: f"at least {value} character",
        "maxLength": lambda: f"at most {value} characters",
        "pattern": lambda: f"text like {value}",
        "anyOf": lambda: "a positive count or a list of whole numbers",
    }
    make = words.get(str(error.validator))
    described = _rules(error).get("description")
    text = make() if make else str(error.message)[:200]
    return f"{text} ({described})" if described else text


def _rules(error: jsonschema.ValidationError) -> Mapping[str, Any]:
    return error.schema if isinstance(error.schema, Mapping) else {}


def _value(error: jsonschema.ValidationError) -> Any:
    return error.validator_value


def _short(value: object) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
