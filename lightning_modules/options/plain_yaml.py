"""YAML in which a value is what it looks like; all YAML of this project is read and written so.

PyYAML follows YAML 1.1, where 1:30 is 90, 010 is 8, 1_000 is 1000, yes is true, 2024-01-01 is a date and a key that is
given twice has its last value. Here numbers are decimal, true and false alone are truth values, keys are text and given
once, and everything else is text, which an option that expects a number refuses.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any, ClassVar

import yaml
from jsonargparse import _loaders_dumpers, set_dumper, set_loader

INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
FLOAT = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
MOST = 1_000_000  # values in a text with aliases
TEXT, MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"
DIGITS = list("-+.0123456789")
PLAIN = {  # what text has to match to be something else, in this order, and the characters that it begins with
    "null": (re.compile(r"~|null|Null|NULL|"), ["~", "n", "N", ""]),
    "bool": (re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF")),
    "int": (INT, DIGITS),
    "float": (FLOAT, DIGITS),
    "merge": (re.compile("<<"), ["<"]),
}


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the rules of this module."""

    yaml_implicit_resolvers: ClassVar[dict] = {}  # none of YAML 1.1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        if isinstance(node, yaml.MappingNode):
            self._check_keys(node)
            self.flatten_mapping(node)
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode):
                    key.tag = TEXT
        return super().construct_mapping(node, deep)

    @staticmethod
    def _check_keys(node: yaml.MappingNode) -> None:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                if key.value in seen:
                    message = f"expected each key once, got {key.value!r} twice"
                    raise yaml.constructor.ConstructorError(None, None, message, key.start_mark)
                seen.add(key.value)


class Dumper(yaml.SafeDumper):
    """PyYAML's; text that `Loader` or YAML 1.1 would read as something else gets quotes."""


for _kind, (_pattern, _first) in PLAIN.items():
    _whole = re.compile(rf"(?:{_pattern.pattern})\Z")
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", _whole, _first)
    if _kind == "float":
        Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", _whole, _first)


def load(text: str) -> Any:
    """What a YAML text holds; yaml.YAMLError if it is none."""
    try:
        content = yaml.load(text, Loader)
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None
    if "*" in text and "&" in text:
        _check_size(content)
    return content


def _check_size(content: Any) -> None:
    """Refuses aliases by which a few lines stand for a tree that nobody can hold, or that holds itself."""
    left, seen = [content], 0
    while left:
        value = left.pop()
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple | set) else ()
        seen += len(inner)
        if seen > MOST:
            raise yaml.YAMLError(f"aliases make more than {MOST:,} values of it, or one that holds itself")
        left += inner


def dump(content: Any) -> str:
    """Plain values as YAML, in the order they have, for `load` and for any other reader."""
    return yaml.dump(content, Dumper=Dumper, sort_keys=False)


def use_in_parsers() -> None:
    """Lets jsonargparse read and write all values and configs in this way.

    The public `jsonargparse.set_loader` is not enough: numbers are read with its default loader.
    """
    _loaders_dumpers.yaml_default_loader = Loader
    set_loader("yaml", load, (yaml.YAMLError,))
    set_dumper("yaml", dump)
