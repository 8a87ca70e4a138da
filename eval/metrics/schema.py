"""The JSON schema of metrics.json: an arm's part derives from the registry's columns."""

from __future__ import annotations

from typing import Any

from eval.metrics.metric import Column
from eval.metrics.registry import columns

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
TRUTH: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
SECONDS: Schema = {"type": "number", "minimum": 0}
MAPPING: Schema = {"type": "object"}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
PHASES = ("prepare", "decode", "tables", "features", "metrics", "pairs", "scores", "measure", "total")
SPREAD = ("mean", "min", "max")


def metrics_schema() -> Schema:
    """The schema of a run's metrics.json (JSON Schema 2020-12)."""
    wall = _object(dict.fromkeys(PHASES, SECONDS), required=("measure", "total"))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "metrics.json of a run",
        **_object(
            {
                "arms": {"type": "object", "additionalProperties": {"$ref": "#/$defs/arm"}},
                "reference": _reference(),
                "environment": {"$ref": "#/$defs/environment", "description": "the machine that decoded"},
                "measured_on": {"$ref": "#/$defs/environment", "description": "the machine that measured"},
                "config": _described("config.yaml", MAPPING),
                "wall_seconds": _described("time of each phase; measure is tables to scores", wall),
                "class_names": {"type": ["array", "null"], "items": TEXT},
                "batch_size": _described("images decoded together", COUNT),
                "patch_nums": _described("sides of the scales", {"type": "array", "items": COUNT}),
            }
        ),
        "$defs": {"arm": _arm(), "environment": _environment()},
    }


def column_schema(column: Column) -> Schema:
    """The schema of a column's value."""
    bounds = {"minimum": column.minimum, "maximum": column.maximum}
    value: Schema = {
        "type": [column.type, "null"] if column.nullable else column.type,
        **{name: bound for name, bound in bounds.items() if bound is not None},
        **({"enum": list(column.choices)} if column.choices else {}),
    }
    for _ in range(column.dimensions):
        value = {"type": "array", "items": value}
    return _described(column.description, _object(dict.fromkeys(column.fields, value)) if column.fields else value)


def _object(properties: Schema, required: tuple[str, ...] | None = None, others: Schema | bool = False) -> Schema:
    """An object; by default all of its properties are required and there are no others."""
    required = tuple(properties) if required is None else required
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": others,
    }


def _described(description: str, schema: Schema) -> Schema:
    return {**schema, "description": description}


def _network() -> Schema:
    return {
        "feature_extractor": _described("network of the features", TEXT),
        "feature_extractor_sha256": _described("digest of its weights", TEXT),
    }


def _arm() -> Schema:
    always = {
        "strategy": _described("how it decoded", TEXT),
        "kind": _described("target or draft (one model alone), speculative, handoff, or another class", TEXT),
        "arm": _described("how it decoded, as a config states it", MAPPING),
        "lossless": _described("keeps the baseline's distribution", TRUTH),
        "exact": _described("keeps the baseline's tokens", TRUTH),
        "images": _described("number of images", COUNT),
        "warnings": {"type": "array", "items": TEXT},
    }
    spread = _object({key: {"type": "number"} for key in SPREAD})
    sometimes = {
        "draft": _described("checkpoint of its draft, where it has one of its own", TEXT),
        "sampling": _described("guidance and filters, where it has its own", MAPPING),
        "seconds_of_class_prefix": _described(
            "seconds that the first process spent on what the arm's models make of the classes alone, once",
            {"type": "number", "minimum": 0},
        ),
        **_network(),
        "repeats": _described(
            "metrics of equal parts with seeds of their own",
            _object({"count": COUNT, "images": _described("images of a part", COUNT)}, others=spread),
        ),
    }
    required = (*always, *(column.key for column in columns() if column.always))
    return _object(always | sometimes | _values(), required)


def _values() -> Schema:
    """Of every column, and of the intervals beside them."""
    values = {column.key: column_schema(column) for column in columns()}
    return values | {column.interval_key: _interval(column) for column in columns() if column.interval}


def _interval(column: Column) -> Schema:
    two = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    return _described(f"95 % interval, [low, high], of {column.key}", two)


def _reference() -> Schema:
    """The reference has the metrics that compare with nothing else."""
    score = {key: schema for key, schema in _values().items() if key.startswith("inception_score")}
    own = {"source": _described("as --reference has it", TEXT), "images": _described("number of images", COUNT)}
    return _object(own | _network() | score, required=())


def _environment() -> Schema:
    kernels = {
        "attention": _described("auto is the best on the machine", TEXT),
        "pick": _described("what picks the tokens: triton (one kernel) or torch (its operations)", TEXT),
        "graphs": _described("whether passes are replayed as CUDA graphs, on a GPU", TRUTH),
        "tokenizer_dtype": _described("of the tokenizer's decoder", TEXT),
        "threads": {"type": ["integer", "null"], "description": "CPU threads per process; null is torch's own number"},
        "prefix_bytes": _described("memory per model for class prefixes", COUNT),
        "tf32": _described("whether a GPU rounds the factors of float32 products to TF32", TRUTH),
        "float32_matmul_precision": _described("highest, high or medium", TEXT),
        "tf32_convolutions": TRUTH,
        "cudnn_benchmark": TRUTH,
        "deterministic_algorithms": TRUTH,
    }
    properties = {
        "command": _described("what was called", TEXT),
        "date": _described("when it was called, YYYY-MM-DD", TEXT),
        "python": _described("version", TEXT),
        "versions": TEXTS,
        "device": {"type": "string", "enum": ["cpu", "cuda"]},
        "processor": _described("model of the CPU", TEXT),
        "gpu": _described("model of the GPU", TEXT),
        "threads": {"type": ["integer", "null"], "minimum": 0, "description": "CPU threads per process"},
        "weights_sha256": TEXTS,
        "git_revision": _described("commit, -dirty if files were changed", TEXT),
        "dtype": _described("number format of the models", TEXT),
        "kernels": _object(kernels, required=()),
    }
    return _object(properties, required=("device", "threads"))
