"""A strategy as reports and Python show it, ``Speculative(gamma=Spans(scales=(3, 1, 1, 1)))``, taken apart unrun."""

from __future__ import annotations

import ast
from typing import Any


def is_call(text: object) -> bool:
    """Whether a text is a class with arguments in parentheses."""
    return isinstance(text, str) and "(" in text


def split_call(text: str) -> tuple[str, list[Any], dict[str, Any]]:
    """The class path, the arguments by position and those by name.

    An argument is a number, a text, true, false or none, a list of these, or a text that is a class or a call again.

    Raises:
        ValueError: it is something else.
    """
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or any(keyword.arg is None for keyword in call.keywords):
            raise ValueError
        named = {str(keyword.arg): _value(keyword.value) for keyword in call.keywords}
        path, positional = _path(call.func), [_value(argument) for argument in call.args]
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        shown = text if len(text) <= 100 else f"{text[:99]}…"
        raise ValueError(f"expected CLASS(PARAMETER=VALUE, …) such as Speculative(gamma=2), got {shown!r}") from None
    names = [str(keyword.arg) for keyword in call.keywords]
    if twice := [name for name in named if names.count(name) > 1]:
        raise ValueError(f"{path}: {twice[0]}: given twice")
    return path, positional, named


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        return ast.unparse(node)
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(one) for one in node.elts]
    if isinstance(node, ast.Name | ast.Attribute):
        word = _path(node)
        return {"true": True, "false": False, "none": None, "null": None}.get(word, word)
    return ast.literal_eval(node)


def _path(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_path(node.value)}.{node.attr}"
    if not isinstance(node, ast.Name):
        raise ValueError
    return node.id
