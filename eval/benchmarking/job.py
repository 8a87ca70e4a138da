"""A benchmark from its options to the content of its JSON file."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jsonargparse import Namespace

import sdvar
from eval.benchmarking import measuring
from eval.benchmarking.measuring import Runner, strategy_runner
from eval.benchmarking.models import choose_device, load
from eval.benchmarking.options import arms_of
from eval.benchmarking.original import Original, compare_tokens, load_original, original_runners
from eval.benchmarking.summary import summarise
from eval.cli.groups import engine_of
from eval.estimates.memory import check_batch, decode_bytes, free_bytes, largest_batch, naming_the_batch
from eval.estimates.roofline import Roofline, dtype_name, measure_ceilings
from eval.estimates.simulated import with_simulated
from lightning_modules.arms.arm import build_arms
from lightning_modules.pair_source import with_draft
from lightning_modules.run.environment import describe_environment
from sdvar.decoding import check_fit
from sdvar.decoding.guidance_inside import mismatch
from sdvar.engine import tf32_allowed
from sdvar.planning.inputs import labels_and_seeds

log = logging.getLogger("eval.benchmark")


class Job(NamedTuple):
    """Everything that a benchmark needs, checked.

    Attributes:
        pair: the models, on their device.
        weights: what identifies them, by model.
        batch_sizes: to measure.
        runners: what is compared, our baseline first.
        original: the original code's models, if it is measured.
        needed: bytes that a batch takes.
    """

    pair: sdvar.ModelPair
    weights: dict[str, str]
    batch_sizes: list[int]
    runners: list[Runner]
    original: Original | None
    needed: Callable[[int], int]


def prepare(options: Namespace) -> Job:
    """Loads the models and checks the options against them.

    Raises:
        ValueError, TypeError, OSError: with one line that says what is wrong.
    """
    device = choose_device(options.accelerator)
    build_arms(options.strategy or {})  # what is wrong with one of them is said before the models are loaded
    sampling = sdvar.Sampling(**options.sampling.as_dict())
    pair, weights = load(options, device)
    arms = arms_of(options, len(pair.pyramid))
    strategies = {arm.name: arm.strategy for arm in arms}
    if options.acceptance is not None:
        strategies = with_simulated(strategies, options.acceptance, len(pair.pyramid))
    pairs, runners = {None: pair}, []  # by an arm's own draft
    for arm in arms:
        check_fit(strategies[arm.name], arm.sampling or sampling, len(pair.pyramid))
        if arm.draft not in pairs:
            pairs[arm.draft] = engine_of(options).apply(with_draft(pair, arm.draft, options.precision))
        if text := mismatch(strategies[arm.name], arm.sampling or sampling, pairs[arm.draft]):
            log.warning("strategy %r: %s", arm.name, text)
        runners.append(strategy_runner(arm, strategies[arm.name], pairs[arm.draft], sampling, options.images))
    original = load_original(options.original, pair) if options.original is not None else None
    pair.tokenizer.drop_encoder()
    if original:
        runners += original_runners(original, sampling, device, pair.target.dtype)

    def needed(batch: int) -> int:
        ours = max(decode_bytes(pairs[arm.draft], strategies[arm.name], batch, options.images) for arm in arms)
        # the original runs while our caches are kept, and keeps its numbers in float32
        wider = torch.float32.itemsize // pair.target.dtype.itemsize
        return ours + (wider * decode_bytes(pair, sdvar.Baseline(), batch) if original else 0)

    free = free_bytes(device)
    sizes = [largest_batch(needed, free) or 1] if options.batch_size == "auto" else options.batch_size
    for batch in sizes:
        check_batch(batch, needed, free)
    return Job(pair, weights, sizes, runners, original, needed)


def run(options: Namespace, job: Job) -> dict[str, Any]:
    """Measures everything; returns the content of the JSON file.

    Raises:
        ValueError: if memory runs out.
    """
    pair, device, dtype = job.pair, job.pair.device, job.pair.tokenizer.decoder_dtype
    with tf32_allowed(options.tf32):
        log.info("measuring what the machine reaches")
        pairs = [pair, *(runner.pair for runner in job.runners if runner.pair)]
        dtypes = [model.dtype for each in pairs for model in (each.target, each.draft)]
        ceilings = measure_ceilings(device, (*dtypes, dtype))
        rooflines = {id(each): Roofline(each, ceilings) for each in pairs}
        results = [entry for batch in job.batch_sizes for entry in _measure(options, job, batch, rooflines)]
        original_tokens = _compare(options, job) if job.original else None
    chosen = ("attention", "tf32", "images", "warmup", "repeats")
    return {
        "models": _describe(options),
        "patch_nums": list(pair.pyramid.patch_nums),
        "settings": {
            "precision": options.precision,
            "tokenizer_dtype": dtype_name(dtype),
            "sampling": options.sampling.as_dict(),
            "graphs": pair.target.graphs,
            **{name: options[name] for name in chosen},
            "simulated_acceptance": options.acceptance,
        },
        "memory_is": "weights of the models that it runs, and the peak beyond what the process used before, "
        + ("allocated on the GPU" if device.type == "cuda" else "resident"),
        "ceilings": ceilings._asdict(),
        "results": results,
        "original_tokens": original_tokens,
        "environment": describe_environment(device.type, options.threads, job.weights),
    }


def _measure(options: Namespace, job: Job, batch: int, rooflines: dict[int, Roofline]) -> list[dict[str, Any]]:
    pair = job.pair
    with naming_the_batch(batch, job.needed):
        measured = measuring.measure(job.runners, batch, pair.num_classes, pair.device, options.warmup, options.repeats)
    baseline = measured[job.runners[0].name]
    return [
        summarise(one, measured[one.name], baseline, batch, rooflines[id(one.pair or pair)], options.images)
        for one in job.runners
    ]


def _compare(options: Namespace, job: Job) -> dict[str, Any]:
    if options.precision != "32-true":
        return {"not_compared": "tokens are compared with --precision 32-true"}
    log.info("comparing tokens with the original's")
    inputs = labels_and_seeds(max(job.batch_sizes), 0, job.pair.num_classes, job.pair.device)
    return compare_tokens(job.original, job.pair, *inputs, options.sampling.cfg)


def _describe(options: Namespace) -> str:
    if options.random_weights:
        sizes = options.random_weights
        return f"random weights, target {sizes[0]}, draft {options.draft or sizes[-1]}"
    if options.pair:
        return f"pair {options.pair}" + (f", draft {options.draft}" if options.draft else "")
    return f"target {options.target}, draft {options.draft}"
