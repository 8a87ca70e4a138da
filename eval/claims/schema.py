"""The JSON schema of claim.json."""

from __future__ import annotations

from eval.claims.digests import PNG_DIGITS, SCALE_DIGITS
from eval.claims.write import MARKER, MODELS, VERSION
from eval.metrics.schema import (
    COUNT,
    MAPPING,
    TEXT,
    TEXTS,
    TRUTH,
    Schema,
    described,
    environment_schema,
    network_schema,
    object_schema,
    values_schema,
)
from lightning_modules.columns import PER_IMAGE

DIGEST: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}(::.+)?$"}
ALL = "of each image, in the order of images.index, with blanks between"


def claim_schema() -> Schema:
    """The schema of a run's claim.json (JSON Schema 2020-12)."""
    machine = {"$ref": "#/$defs/environment"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "claim.json of a run",
        **object_schema(
            {
                MARKER: described("version of this format", {"enum": [VERSION]}),
                "models": described("what decoded", _models()),
                "patch_nums": described("sides of the scales", {"type": "array", "items": COUNT}),
                "num_classes": described("of the models", COUNT),
                "images": described("what every arm decoded", _images()),
                "seed": described("of the run", COUNT),
                "sampling": described("guidance and filters, as arguments of sdvar.Sampling", MAPPING),
                "batch_size": described("images decoded together", COUNT),
                "precision": described("number format of the models", TEXT),
                "device": {"type": "string", "enum": ["cpu", "cuda"]},
                "engine": described("how the models ran, as arguments of sdvar.Engine", MAPPING),
                "environment": machine | {"description": "the machine that decoded"},
                "measured_on": machine | {"description": "the machine that measured"},
                "reference": described("real images; empty without", _reference()),
                "arms": {"type": "object", "additionalProperties": {"$ref": "#/$defs/arm"}},
            }
        ),
        "$defs": {"arm": _arm(), "environment": environment_schema(), "figures": _figures()},
    }


def _models() -> Schema:
    file = object_schema({"name": described("of its file, or its address on the hub", TEXT), "sha256": DIGEST}, ())
    bundled = {"pair": described("name of a bundled pair", TEXT)}
    return object_schema(bundled | dict.fromkeys(MODELS, file), required=())


def _images() -> Schema:
    return object_schema(
        {
            "count": described("images of each arm", COUNT),
            "sha256": described("of a line INDEX,LABEL,SEED for each", DIGEST),
            "index": described("ranges, ascending", TEXT),
            "label": described(f"class {ALL}", TEXT),
            "seed": described(f"seed {ALL}", TEXT),
        }
    )


def _reference() -> Schema:
    figures = {"$ref": "#/$defs/figures"}
    digest = described("of its file; a folder has none", DIGEST)
    return object_schema({"name": TEXT, "sha256": digest, "images": COUNT, "figures": figures}, required=())


def _figures() -> Schema:
    return object_schema(values_schema() | network_schema(), required=())


def _arm() -> Schema:
    always = {
        "strategy": described("how it decoded, as a config states it; a schedule where gamma was auto", MAPPING),
        "text": described("the same as tables show it", TEXT),
        "kind": TEXT,
        "lossless": TRUTH,
        "exact": TRUTH,
        "seed_offset": described("what it adds to the seeds of images.seed", {"type": "integer"}),
        "manifest_sha256": described(
            "of a line INDEX,LABEL,SEED,PNG,TOKENS for each image: the SHA-256 of its file, and of its L tokens as "
            "unsigned integers of 4 bytes, the lowest first; nothing for tokens that were not kept",
            DIGEST,
        ),
        "figures": described("the metrics with their intervals, as in metrics.json", {"$ref": "#/$defs/figures"}),
        "png": described(f"first {PNG_DIGITS} digits of the SHA-256 of the file {ALL}", TEXT),
        "tokens": described(
            f"first {SCALE_DIGITS} digits of the SHA-256 of the tokens of each scale, joined, {ALL}; - for tokens that "
            "were not kept",
            TEXT,
        ),
        **{name: described(f"{name.replace('_', ' ')} {ALL}", TEXT) for name in PER_IMAGE},
    }
    sometimes = {
        "draft_sha256": described("of its own draft", DIGEST),
        "source_sha256": described("of the files of classes that are not sdvar's", TEXTS),
    }
    return object_schema(always | sometimes, required=tuple(always))
