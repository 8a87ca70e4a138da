"""Reads a claim, which may come from anybody: sizes are limited, and every value is checked before it is used."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sdvar
from eval.claims.digests import MISSING, PNG_DIGITS, SCALE_DIGITS, images_digest
from eval.claims.write import MARKER, MODELS, VERSION
from lightning_modules.columns import PER_IMAGE
from lightning_modules.data.label_ranges import IMAGES_LIMIT, parse_ranges
from lightning_modules.pair_source import DTYPES
from lightning_modules.run.formats.records import check_plain, expect, parse
from lightning_modules.run.names import ARM_NAME, CLAIM

SHA256 = re.compile(r"[0-9a-f]{64}(::.{1,1000})?")
MOST_SCALES, LARGEST_SIDE, MOST_THREADS = 100, 1024, 1024
LARGEST = 2**62  # of seeds, so that sums of two are numbers of 64 bits
NUMBER, COUNT, CALLS = r"-?[0-9]{1,19}", "[0-9]{1,9}", "[0-9]{1,5}"  # images are counted by their calls
TEXT_OR_NONE = (str, type(None))


@dataclass(frozen=True)
class ClaimedArm:
    """What a claim says of an arm.

    Attributes:
        name: of the arm.
        strategy: class_path and init_args; nothing in it has been imported.
        sampling: its own, as arguments of `sdvar.Sampling`; None for the run's.
        draft, draft_sha256: its own: the file's name, or what is made of the target; None for the pair's.
        source_sha256: by class path, the digests of the files of classes that are not sdvar's.
        seeds: of its images.
        png, tokens: short digests of each image, see `eval.claims.digests`.
        counts: by name of `PER_IMAGE`, a count of each image.
        manifest_sha256: see `eval.claims.digests.manifest_digest`.
        figures: the metrics with their intervals.
        exact: whether its images are claimed to have the baseline's tokens.
    """

    name: str
    strategy: dict[str, Any]
    sampling: dict[str, Any] | None
    draft: str | None
    draft_sha256: str | None
    source_sha256: dict[str, str]
    seeds: list[int]
    png: list[str]
    tokens: list[str]
    counts: dict[str, list[int]]
    manifest_sha256: str
    figures: dict[str, Any]
    exact: bool


@dataclass(frozen=True)
class Claim:
    """What a claim says, checked as far as it can be without the models.

    Attributes:
        file: where it lies.
        pair: name of a bundled pair; None for files of one's own.
        draft: name of the pair's draft.
        weights: digests by model; none for a draft that is made of the target.
        names: what the models' files are called.
        index, labels, seeds: of the images of every arm.
        patch_nums, num_classes: of the models.
        sampling, batch_size, precision, engine: how they decoded.
        device: on which they did, cpu or cuda.
        environment: the machine that decoded, see `lightning_modules.run.environment`.
        arms: by name.
    """

    file: Path
    pair: str | None
    draft: str
    weights: dict[str, str]
    names: dict[str, str]
    index: list[int]
    labels: list[int]
    seeds: list[int]
    patch_nums: list[int]
    num_classes: int
    sampling: sdvar.Sampling
    batch_size: int
    precision: str
    engine: sdvar.Engine
    device: str
    environment: dict[str, Any]
    arms: dict[str, ClaimedArm]


def read_claim(file: Path | str) -> Claim:
    """Reads a claim.

    Raises:
        ValueError: it is damaged, or something else, or of a newer version; names the file and the value.
    """
    file = Path(file)
    if file.is_dir():
        raise ValueError(f"claim: expected a .json file, got the folder {file}; give {file / CLAIM}")
    if not file.is_file():
        raise ValueError(f"claim: no such file: {file}")
    if file.suffix != ".json":
        raise ValueError(f"claim: expected a .json file, got {file}")
    content = parse(file)
    check_plain(file, content)
    version = content.get(MARKER) if isinstance(content, dict) else None
    if type(version) is not int or version < 1:
        raise ValueError(f"claim: {file} is none that this project wrote: it has no {MARKER}")
    if version > VERSION:
        raise ValueError(f"claim: {file} has version {version} of the format, this sdvar reads {VERSION}: update it")
    try:
        return _claim(file, content)
    except (ValueError, TypeError) as error:
        raise ValueError(f"claim: {file} is damaged: {str(error).removeprefix(f'{file}: ')}") from None


def _claim(file: Path, content: dict[str, Any]) -> Claim:
    expect(file, content, models=dict, patch_nums=list, num_classes=int, images=dict, sampling=dict, batch_size=int)
    expect(file, content, precision=str, device=str, engine=dict, environment=dict, arms=dict)
    patch_nums = content["patch_nums"]
    if not 0 < len(patch_nums) <= MOST_SCALES or not all(_is_int(side, 1, LARGEST_SIDE) for side in patch_nums):
        raise ValueError(f"patch_nums: expected 1 to {MOST_SCALES} sides of 1 to {LARGEST_SIDE}")
    for name, allowed in (("precision", DTYPES), ("device", ("cpu", "cuda"))):
        if content[name] not in allowed:
            raise ValueError(f"{name}: expected one of {', '.join(allowed)}, got {content[name]:.60}")
    if content["batch_size"] < 1:
        raise ValueError(f"batch_size: expected an int >= 1, got {content['batch_size']}")
    pair, names, weights = _models(content["models"])
    index, labels, seeds = _images(content["images"])
    if not all(0 <= label <= content["num_classes"] for label in labels):  # the last one is the null class
        wrong = next(label for label in labels if not 0 <= label <= content["num_classes"])
        raise ValueError(f"images: label: expected 0 to {content['num_classes']}, got {wrong}")
    if not content["arms"]:
        raise ValueError("arms: expected one or more, got none")
    arms = {name: _arm(name, described, seeds, len(patch_nums)) for name, described in content["arms"].items()}
    return Claim(
        file=file,
        pair=pair,
        draft=names.get("draft", "draft"),
        weights=weights,
        names=names,
        index=index,
        labels=labels,
        seeds=seeds,
        patch_nums=patch_nums,
        num_classes=content["num_classes"],
        sampling=sdvar.Sampling(**content["sampling"]),
        batch_size=content["batch_size"],
        precision=content["precision"],
        engine=_engine(content["engine"]),
        device=content["device"],
        environment=content["environment"],
        arms=arms,
    )


def _models(models: Mapping[str, Any]) -> tuple[str | None, dict[str, str], dict[str, str]]:
    """The bundled pair's name, the names of the files and their digests."""
    expect("models", models, pair=TEXT_OR_NONE)
    names, weights = {}, {}
    for name in MODELS:
        about = models.get(name, {})
        expect("models", {name: about}, **{name: dict})
        expect(f"models: {name}", about, name=TEXT_OR_NONE, sha256=TEXT_OR_NONE)
        names |= {name: about["name"]} if about.get("name") else {}
        weights |= {name: _sha256(f"models: {name}", about["sha256"])} if about.get("sha256") else {}
    for name in ("target", "tokenizer"):
        if name not in weights:
            raise ValueError(f"models: {name}: expected the SHA-256 of its weights, got none")
    return models.get("pair"), names, weights


def _images(images: Mapping[str, Any]) -> tuple[list[int], list[int], list[int]]:
    expect("images", images, count=int, sha256=str, index=str, label=str, seed=str)
    count = images["count"]
    if not 0 < count <= IMAGES_LIMIT:
        raise ValueError(f"images: count: expected 1 to {IMAGES_LIMIT:,}, got {count}")
    if not re.fullmatch(r"[0-9]{1,18}(-[0-9]{1,18})?(,[0-9]{1,18}(-[0-9]{1,18})?)*", images["index"]):
        raise ValueError("images: index: expected ranges such as 0-99")
    index = parse_ranges(images["index"])
    labels, seeds = (_numbers(f"images: {name}", images[name], count) for name in ("label", "seed"))
    if len(index) != count:
        raise ValueError(f"images: index: expected {count} numbers, got {len(index)}")
    if images_digest(index, labels, seeds) != images["sha256"]:
        raise ValueError("images: the SHA-256 of index, label and seed is not the one that it states")
    return index, labels, seeds


def _arm(name: str, described: Any, seeds: Sequence[int], scales: int) -> ClaimedArm:
    if not ARM_NAME.fullmatch(name) or not isinstance(described, dict):
        raise ValueError(f"arms: {name[:60]!r} cannot name an arm, or is none")
    where = f"arms: {name}"
    texts = dict.fromkeys(("png", "tokens", *PER_IMAGE, "manifest_sha256"), str)
    expect(where, described, strategy=dict, seed_offset=int, figures=dict, exact=bool, **texts)
    expect(where, {"source_sha256": {}} | described, draft_sha256=TEXT_OR_NONE, source_sha256=dict)
    if abs(described["seed_offset"]) >= LARGEST:
        raise ValueError(f"{where}: seed_offset: expected a number below 2^62, got {described['seed_offset']}")
    strategy = dict(described["strategy"])
    expect(f"{where}: strategy", strategy, draft=TEXT_OR_NONE, sampling=(dict, type(None)))
    draft, digest = strategy.pop("draft", None), described.get("draft_sha256")
    strategy.pop("reseed", None)  # seed_offset says how
    count = len(seeds)
    return ClaimedArm(
        name=name,
        sampling=strategy.pop("sampling", None),
        strategy=strategy,
        draft=draft,
        draft_sha256=None if digest is None else _sha256(where, digest),
        source_sha256=described.get("source_sha256", {}),
        seeds=[seed + described["seed_offset"] for seed in seeds],
        png=_words(f"{where}: png", described["png"], f"[0-9a-f]{{{PNG_DIGITS}}}", count),
        tokens=_words(f"{where}: tokens", described["tokens"], f"[0-9a-f]{{{SCALE_DIGITS * scales}}}|{MISSING}", count),
        counts={
            of: _numbers(f"{where}: {of}", described[of], count, CALLS if of.endswith("calls") else COUNT)
            for of in PER_IMAGE
        },
        manifest_sha256=_sha256(where, described["manifest_sha256"]),
        figures=described["figures"],
        exact=described["exact"],
    )


def _engine(engine: Mapping[str, Any]) -> sdvar.Engine:
    expect("engine", engine, attention=str, graphs=bool, tf32=bool, tokenizer_dtype=TEXT_OR_NONE)
    expect("engine", engine, threads=(int, type(None)))
    if not _is_int(engine.get("threads") or 1, 1, MOST_THREADS):
        raise ValueError(f"engine: threads: expected 1 to {MOST_THREADS}, got {engine['threads']}")
    return sdvar.Engine(**engine)


def _words(where: str, text: str, pattern: str, count: int) -> list[str]:
    """The words of a text, one for each image."""
    words, valid = text.split(" "), re.compile(pattern)
    if len(words) != count:
        raise ValueError(f"{where}: expected {count} values, one for each image, got {len(words)}")
    for word in words:
        if not valid.fullmatch(word):
            raise ValueError(f"{where}: expected {pattern}, got {word[:60]!r}")
    return words


def _numbers(where: str, text: str, count: int, pattern: str = NUMBER) -> list[int]:
    numbers = [int(word) for word in _words(where, text, pattern, count)]
    if not all(abs(number) < LARGEST for number in numbers):
        raise ValueError(f"{where}: expected numbers below 2^62")
    return numbers


def _sha256(where: str, text: str) -> str:
    if not SHA256.fullmatch(text):
        raise ValueError(f"{where}: expected a SHA-256 of 64 hexadecimal digits, got {text[:60]!r}")
    return text


def _is_int(value: object, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most
