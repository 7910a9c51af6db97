"""A YAML file, read with care and checked against a schema: every mistake is one clear line."""

import difflib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from bnorder.errors import UserError

LARGEST_FILE = 1_000_000  # bytes; a study is a page of text
# Characters that no one sees, and that may hide or reorder what stands around them: controls,
# halves of a character, and overrides of the direction of writing.
HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]"
)

WORDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping of keys to values",
}  # for what JSON schema calls its types


def read_yaml(path: str | Path) -> Any:
    """Parse a small YAML file; raises UserError when it is unreadable or no YAML."""
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UserError(f"{path}: larger than {LARGEST_FILE:,} bytes; expected a page of YAML")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        beside = sorted(p.stem for p in path.parent.glob("*.yaml"))
        hint = f"; there are: {', '.join(beside)}" if beside else ""
        raise UserError(f"{str(path)[:200]}: no such file{hint}") from None
    except (OSError, ValueError) as error:  # the latter: no UTF-8, or a path with a NUL in it
        reason = f"cannot be read ({error}); expected UTF-8 YAML"
        raise UserError(f"{str(path)[:200]}: {reason[:300]}") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> Any:
    """Parse YAML; raises UserError that begins with `where` when it is none."""
    try:
        return yaml.load(text, Loader=_PlainLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where += f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        raise UserError(f"{where}: no valid YAML ({problem[:160]})") from None
    except RecursionError:
        raise UserError(f"{where}: nested too deeply; expected a page of YAML") from None
    except ValueError as error:  # such as a number of thousands of digits, or a 30th of February
        raise UserError(f"{where}: no valid YAML ({str(error)[:160]})") from None


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


class _Dumper(yaml.SafeDumper):
    """Writes what `_PlainLoader` reads back as the same: the text 1e-3 in quotes, for one."""


for _kind in (_PlainLoader, _Dumper):
    # YAML 1.1 reads 1e-3 as a string; people mean the number.
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)$"),
        list("-+0123456789."),
    )


def write_yaml(value: object, **options: Any) -> str:
    """Plain values as YAML that `read_yaml` and `parse_yaml` read back as the same values."""
    text: str = yaml.dump(value, Dumper=_Dumper, **options)
    return text


def check_against_schema(raw: object, schema: Mapping[str, Any], path: str | Path) -> None:
    """Raise UserError on the first thing in `raw` that the JSON schema does not allow.

    Besides, a number must be finite, a whole number must be written as one, and text may hold no
    hidden characters.
    """
    for where, text in _texts(raw, ""):
        hidden = HIDDEN.search(text)
        if hidden:
            raise UserError(
                f"{path}: {where} is {_short(text)}; expected text without hidden characters such "
                f"as U+{ord(hidden[0]):04X}"
            )
    error = jsonschema.exceptions.best_match(_Validator(schema).iter_errors(raw))
    if error is not None:
        raise UserError(f"{path}: {_describe(error)}")


def _texts(value: object, where: str) -> Iterator[tuple[str, str]]:
    """Every text in `value`, keys as well, with its place."""
    if isinstance(value, str):
        yield where or "the file", value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield f"a key of {where or 'the file'}", str(key)
            yield from _texts(item, f"{where}.{str(key)[:40]}".lstrip("."))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _texts(item, f"{where}[{index}]")


def _is_whole(checker: object, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(checker: object, value: object) -> bool:
    return _is_whole(checker, value) or (isinstance(value, float) and math.isfinite(value))


def _pattern(
    validator: object, pattern: str, value: object, schema: Mapping[str, Any]
) -> Iterator[jsonschema.ValidationError]:
    """As JSON schema has it, but for a last line break, which Python's `$` lets pass."""
    if isinstance(value, str) and ("\n" in value or not re.search(pattern, value)):
        yield jsonschema.ValidationError("does not match")


_Validator = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
    jsonschema.Draft202012Validator,
    validators={"pattern": _pattern},
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
        {"integer": _is_whole, "number": _is_finite}
    ),
)


def _describe(error: jsonschema.ValidationError) -> str:
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error.absolute_path)
    where = where.lstrip(".")[:120] or "the file"
    if "propertyNames" in error.absolute_schema_path:
        where = f"a key of {where}"
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = sorted(_rules(error).get("properties", {}))
        unknown = next(str(k) for k in error.instance if k not in known)
        return f"{where}: {unknown_key(unknown, known)}; expected one of {', '.join(known)}"
    if error.validator == "required" and isinstance(error.instance, dict):
        missing = [k for k in _value(error) if k not in error.instance]
        return f"{where}: the key {missing[0]!r} is missing"
    return f"{where} is {_short(error.instance)}; expected {_expected(error)}"


def unknown_key(key: str, known: Iterable[str]) -> str:
    """That a key is unknown, with the known one that it is nearly, if any."""
    near = difflib.get_close_matches(key[:60].lower(), list(known), n=1)
    return f"unknown key {key[:60]!r}" + (f" (did you mean {near[0]}?)" if near else "")


def _expected(error: jsonschema.ValidationError) -> str:
    error = _of_all_branches(error)
    value = _value(error)
    words: dict[str, Callable[[], str]] = {
        "type": lambda: " or ".join(WORDS.get(t, t) for t in _as_list(value)),
        "enum": lambda: "one of " + ", ".join(map(str, value)),
        "minimum": lambda: f"at least {value}",
        "maximum": lambda: f"at most {value}",
        "exclusiveMinimum": lambda: f"more than {value}",
        "exclusiveMaximum": lambda: f"less than {value}",
        "minItems": lambda: f"a list of at least {value} item",
        "maxItems": lambda: f"a list of at most {value} items",
        "minProperties": lambda: f"a mapping of at least {value} key",
        "minLength": lambda: f"at least {value} character",
        "maxLength": lambda: f"at most {value} characters",
        "pattern": lambda: f"text like {value}",
        "anyOf": lambda: ", or ".join(_alternatives(error)),
    }
    make = words.get(str(error.validator))
    described = _rules(error).get("description")
    text = make() if make else str(error.message)[:200]
    return f"{text} ({described})" if described else text


def _of_all_branches(error: jsonschema.ValidationError) -> jsonschema.ValidationError:
    """The `anyOf` of which `error` tells one branch, where the value is of none of its kinds."""
    whole: Any = error.parent
    of_a_kind = error.validator in ("type", "enum", "pattern") and not error.relative_path
    return whole if whole is not None and whole.validator == "anyOf" and of_a_kind else error


def _alternatives(error: jsonschema.ValidationError) -> list[str]:
    """What each branch of an `anyOf` expects of a value that is no list, in words."""
    branches = {e.relative_schema_path[0]: _rules(e) for e in error.context or ()}
    words = []
    for rules in (branches[index] for index in sorted(branches)):
        if "enum" in rules:
            words.append("one of " + ", ".join(map(str, rules["enum"])))
        elif rules.get("type") != "array":
            words.append(rules.get("description") or WORDS[rules["type"]])
        elif len(branches) == 2:
            words.append("a list of them")
        else:
            words.append(f"a list of {WORDS[rules['items']['type']].removeprefix('a ')}s")
    return words


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _rules(error: jsonschema.ValidationError) -> Mapping[str, Any]:
    return error.schema if isinstance(error.schema, Mapping) else {}


def _value(error: jsonschema.ValidationError) -> Any:
    return error.validator_value


def _short(value: object) -> str:
    try:
        text = json.dumps(value, default=str, ensure_ascii=False)
    except (ValueError, RecursionError):  # a number of thousands of digits
        text = "a huge value"
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= 60 else text[:57] + "..."
