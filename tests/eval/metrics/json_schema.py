"""Checks a value against the part of JSON Schema that eval.metrics.schema uses."""

import re

TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}
KNOWN = {"$schema", "$defs", "$ref", "title", "description", "type", "properties", "required", "additionalProperties",
         "items", "minItems", "maxItems", "enum", "minimum", "maximum", "pattern"}  # fmt: skip


def violations(value, schema, root=None, where="metrics"):
    """What in the value does not fit the schema, in words."""
    root = root or schema
    assert set(schema) <= KNOWN, f"{where}: the schema uses what this check does not know: {set(schema) - KNOWN}"
    if "$ref" in schema:
        return violations(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, where)
    found = []
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    fits = [isinstance(value, TYPES[name]) and (name == "boolean") == isinstance(value, bool) for name in types]
    if types and not any(fits):
        return [f"{where}: {value!r} is not {' or '.join(types)}"]
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where}: {value!r} is none of {schema['enum']}")
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        found.append(f"{where}: {value!r} has not the form {schema['pattern']}")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        found.append(f"{where}: {value} is out of range")
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        found += [f"{where}: {name} is missing" for name in schema.get("required", []) if name not in value]
        for name, inner in value.items():
            if name in properties or isinstance(others, dict):
                found += violations(inner, properties.get(name, others), root, f"{where}.{name}")
            elif not others:
                found.append(f"{where}: {name} is not described")
    if isinstance(value, list) and not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        found.append(f"{where}: {len(value)} items are too few or too many")
    if isinstance(value, list) and "items" in schema:
        for index, inner in enumerate(value):
            found += violations(inner, schema["items"], root, f"{where}[{index}]")
    return found
