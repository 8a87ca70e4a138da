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
    wall = object_schema(dict.fromkeys(PHASES, SECONDS), required=("measure", "total"))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "metrics.json of a run",
        **object_schema(
            {
                "arms": {"type": "object", "additionalProperties": {"$ref": "#/$defs/arm"}},
                "reference": _reference(),
                "environment": {"$ref": "#/$defs/environment", "description": "the machine that decoded"},
                "measured_on": {"$ref": "#/$defs/environment", "description": "the machine that measured"},
                "config": described("config.yaml", MAPPING),
                "wall_seconds": described("time of each phase; measure is tables to scores", wall),
                "class_names": {"type": ["array", "null"], "items": TEXT},
                "batch_size": described("images decoded together", COUNT),
                "patch_nums": described("sides of the scales", {"type": "array", "items": COUNT}),
            }
        ),
        "$defs": {"arm": _arm(), "environment": environment_schema()},
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
    return described(column.description, object_schema(dict.fromkeys(column.fields, value)) if column.fields else value)


def object_schema(properties: Schema, required: tuple[str, ...] | None = None, others: Schema | bool = False) -> Schema:
    """An object; by default all of its properties are required and there are no others."""
    required = tuple(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": others}


def described(description: str, schema: Schema) -> Schema:
    return {**schema, "description": description}


def network_schema() -> Schema:
    digest = {"feature_extractor_sha256": described("digest of its weights", TEXT)}
    further = object_schema(values_schema() | digest | _repeats(), required=())
    by_name = {"type": "object", "additionalProperties": further}
    return {
        "feature_extractor": described("network of the features", TEXT),
        **digest,
        "networks": described("metrics on the features of further networks, by the network's name", by_name),
    }


def _repeats() -> Schema:
    spread = object_schema({key: {"type": "number"} for key in SPREAD})
    parts = object_schema({"count": COUNT, "images": described("images of a part", COUNT)}, others=spread)
    return {"repeats": described("metrics of equal parts with seeds of their own", parts)}


def _arm() -> Schema:
    always = {
        "strategy": described("how it decoded", TEXT),
        "kind": described("target or draft (one model alone), speculative, handoff, parallel, or another class", TEXT),
        "arm": described("how it decoded, as a config states it", MAPPING),
        "lossless": described("keeps the baseline's distribution", TRUTH),
        "exact": described("keeps the baseline's tokens", TRUTH),
        "images": described("number of images", COUNT),
        "warnings": {"type": "array", "items": TEXT},
    }
    sometimes = {
        "draft": described("checkpoint of its draft, where it has one of its own", TEXT),
        "sampling": described("guidance and filters, where it has its own", MAPPING),
        "guidance_inside": described("the guidance that its draft gives without a null branch", TEXT),
        "seconds_of_class_prefix": described(
            "seconds that the first process spent on what the arm's models make of the classes alone, once",
            {"type": "number", "minimum": 0},
        ),
        **network_schema(),
        **_repeats(),
    }
    required = (*always, *(column.key for column in columns() if column.always))
    return object_schema(always | sometimes | values_schema(), required)


def values_schema() -> Schema:
    """Of every column, and of the intervals beside them."""
    values = {column.key: column_schema(column) for column in columns()}
    return values | {column.interval_key: _interval(column) for column in columns() if column.interval}


def _interval(column: Column) -> Schema:
    two = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    return described(f"95 % interval, [low, high], of {column.key}", two)


def _reference() -> Schema:
    """The reference has the metrics that compare with nothing else."""
    score = {key: schema for key, schema in values_schema().items() if key.startswith("inception_score")}
    own = {"source": described("as --reference has it", TEXT), "images": described("number of images", COUNT)}
    return object_schema(own | network_schema() | score, required=())


def environment_schema() -> Schema:
    kernels = {
        "attention": described("auto is the best on the machine", TEXT),
        "pick": described("what picks the tokens: triton (one kernel) or torch (its operations)", TEXT),
        "blocks": described("what the target's blocks run by between products: triton (kernels) or torch", TEXT),
        "head": described("what the target's head multiplies by: triton (a kernel) or torch (its product)", TEXT),
        "graphs": described("whether passes are replayed as CUDA graphs, on a GPU", TRUTH),
        "tokenizer_dtype": described("of the tokenizer's decoder", TEXT),
        "threads": {"type": ["integer", "null"], "description": "CPU threads per process; null is torch's own number"},
        "prefix_bytes": described("memory per model for class prefixes", COUNT),
        "tf32": described("whether a GPU rounds the factors of float32 products to TF32", TRUTH),
        "float32_matmul_precision": described("highest, high or medium", TEXT),
        "tf32_convolutions": TRUTH,
        "cudnn_benchmark": TRUTH,
        "deterministic_algorithms": TRUTH,
    }
    properties = {
        "command": described("what was called", TEXT),
        "date": described("when it was called, YYYY-MM-DD", TEXT),
        "python": described("version", TEXT),
        "versions": TEXTS,
        "device": {"type": "string", "enum": ["cpu", "cuda"]},
        "processor": described("model of the CPU", TEXT),
        "gpu": described("model of the GPU", TEXT),
        "threads": {"type": ["integer", "null"], "minimum": 0, "description": "CPU threads per process"},
        "weights_sha256": TEXTS,
        "git_revision": described("commit, -dirty if files were changed", TEXT),
        "dtype": described("number format of the models", TEXT),
        "kernels": object_schema(kernels, required=()),
    }
    return object_schema(properties, required=("device", "threads"))
