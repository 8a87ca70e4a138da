"""What jsonargparse says of a mistake, in one line of our form: name: expected …, got …; did you mean …?"""

from __future__ import annotations

import re

from sdvar.system.command_line import did_you_mean

# as jsonargparse words its errors
UNION = re.compile(
    r"Does not validate against any of the Union subtypes Subtypes: \[(.*?)\] Errors: - (.*) Given value type: .*? "
    r"Given value:(?: (.*)|$)"
)
SUBTYPE = re.compile(r"<class '(?:[\w.]+\.)?(?P<cls>[^'.]+)'>|typing\.Literal\[(?P<words>.*?)\]|(?P<list>list)\[.*?\]")
NO_YAML = re.compile(r"Problems parsing config: (.*?)( in \"<unicode string>\", (line \d+), column \d+:.*)?$")
NO_CONFIG = re.compile(r"Unexpected config:(?: (.*))?")
NO_TYPE = re.compile(r"Expected a <class '(\w+)'>(?:\. Got value:(?: (.*))?)?")
NO_LITERAL = re.compile(r"Expected a typing\.Literal\[(.*?)\](?:\. Got value: (.*))?")
NO_NUMBER = re.compile(r"Not of type (.*?): (?:(?P<given>\S+) )?.*?(?:\. Got value: (?P<value>.*))?$")
NO_CLASS = re.compile(r"Expected a dot import path string: (.*)")
WITHIN_CLASS = re.compile(r"Problem with given class_path '[\w.]+': (.*?)(?= - Expected a |$)")
FROM_CLASS = re.compile(r"(?:^|- )([a-z_]+: expected .*?)(?= - Expected a |$)")  # what a constructor raised
WORDS = {"int": "an int", "float": "a number", "bool": "true or false", "str": "a text", "dict": "a mapping"}
WORDS |= {"list": "a list", "tuple": "a list", "ClosedUnitInterval": "a number from 0 to 1"}
TOO_LARGE = "is more than can be counted"  # of an int that a type of number refuses
SHOWN = 60  # characters of a value: a list may have a thousand names


def reword(message: str) -> str:
    """An error message of jsonargparse in one line of our form."""
    message = " ".join(message.split())
    message += " " * message.endswith("Got value:")  # of an empty text
    message = UNION.sub(_of_union, message)
    message = re.sub(r"Problem with given class_path '[\w.]+': ", "", message)
    message = re.sub(r"Parser key \"([\w.]+)\": ", r"\1: ", message)
    message = re.sub(r"the following arguments are required: ", "missing ", message)
    message = re.sub(r"Group '(\w+)' does not accept option '(\w+)'", r"Key '\1.\2' is not accepted", message)
    message = NO_YAML.sub(lambda found: f"config: {f'{found[3]}: ' if found[3] else ''}{found[1]}", message)
    message = NO_CONFIG.sub(lambda found: f"config: expected a mapping of options{_got(found[1] or '')}", message)
    message = NO_LITERAL.sub(lambda found: _expected_one_of(found[1], found[2]), message)
    message = NO_TYPE.sub(lambda found: f"expected {_named(found[1])}{_got(found[2])}", message)
    message = NO_CLASS.sub(r"expected a class, got '\1'", message)
    return NO_NUMBER.sub(_expected_number, message)


def _of_union(found: re.Match[str]) -> str:
    """Of a value that may have several types: the mistake within the class that it names, else these types."""
    subtypes, reasons, value = found.groups()
    if within := WITHIN_CLASS.search(reasons) or FROM_CLASS.search(reasons):
        return within[1]
    value = value or ""
    kinds: list[str] = []
    for kind in SUBTYPE.finditer(subtypes):
        if kind["words"] and not kinds and subtypes.endswith("<class 'NoneType'>") and subtypes.count("Literal") == 1:
            return _expected_one_of(kind["words"], value)
        if kind["words"]:
            kinds += kind["words"].split(", ")
        elif kind["cls"] != "NoneType":
            kinds.append(_named(kind["list"] or kind["cls"]))
    expected = " or ".join(filter(None, [", ".join(kinds[:-1]), kinds[-1]]))
    return f"expected {expected}{_got(value)}"


def _named(kind: str) -> str:
    """A type in words: an int, a text, a schedule, a number above 0."""
    return WORDS.get(kind) or f"{'an' if kind[0] in 'aeioAEIO' else 'a'} {kind[0].lower()}{kind[1:]}"


def _expected_one_of(allowed: str, given: str | None) -> str:
    words = re.findall(r"'(.*?)'", allowed)
    return f"expected one of {', '.join(words)}{_got(given)}{did_you_mean(given, words)}"


def _expected_number(found: re.Match[str]) -> str:
    if TOO_LARGE in found[0]:
        return f"expected at most 10^15{_got(found['value'] or found['given'])}"
    if of_type := re.search(r"not '(\w+)'$", found[0]):
        return f"expected {_named(found[1])}, got {'null' if of_type[1] == 'NoneType' else _named(of_type[1])}"
    quoted = re.search(r"'(.*)'$", found[0])  # invalid literal for int() with base 10: 'x'
    return f"expected {_named(found[1])}{_got(found['value'] or (quoted[1] if quoted else found['given']))}"


def _got(given: str | None) -> str:
    if given is None:
        return ""
    plain = re.fullmatch(r"[-+.\d]+(e[-+]?\d+)?|[\[{].*", given)  # a number, a list or a mapping
    shown = given if plain else repr(given)
    return f", got {shown if len(shown) <= SHOWN else shown[: SHOWN - 1] + '…'}"
