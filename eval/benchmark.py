"""Time and memory of strategies side by side, beside the least that the machine can take."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from jsonargparse import Namespace

from eval.benchmarking.options import parse

if TYPE_CHECKING:  # heavy: only imported once the options are known to be good
    import torch

    import sdvar
    from eval.benchmarking.original import Original
    from eval.benchmarking.runners import Runner

log = logging.getLogger("eval.benchmark")


@dataclass
class Job:
    """Everything that a benchmark needs, checked."""

    device: torch.device
    pair: sdvar.ModelPair
    weights: dict[str, str]
    sampling: sdvar.Sampling
    runners: list[Runner]
    original: Original | None
    needed: Callable[[int], int]  # bytes that a batch takes


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; see `python eval/benchmark.py --help`."""
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
        job = prepare(options)
        _log_to_stderr()
        report = run(options, job)
    except (ValueError, TypeError, OSError) as error:
        _stop(error)

    from eval.benchmarking.table import print_tables

    if options.out:
        Path(options.out).write_text(json.dumps(report, indent=2) + "\n")
    print_tables(report)


def _stop(error: Exception) -> NoReturn:
    print(f"eval/benchmark.py: error: {error}", file=sys.stderr)
    sys.exit(2)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    for name in (log.name, "sdvar.attention", "sdvar.graphs"):
        logging.getLogger(name).addHandler(handler)
    log.setLevel(logging.INFO)


def prepare(options: Namespace) -> Job:
    """Loads the models and checks the options against them; fills in ``batch_size`` where it is "auto".

    Raises:
        ValueError, TypeError, OSError: with one line that says what is wrong.
    """
    import torch

    import sdvar
    from eval.benchmarking.memory import check_batch, decode_bytes, free_bytes, largest_batch, too_large
    from eval.benchmarking.models import load
    from eval.benchmarking.original import load_original, original_runners
    from eval.benchmarking.runners import StrategyRunner
    from eval.benchmarking.simulated import with_simulated
    from eval.cli.arms import build_arms
    from sdvar.decoding import check_fit

    device = choose_device(options.accelerator)
    strategies = {arm.name: arm.strategy for arm in build_arms(options.strategy)}
    sampling = sdvar.Sampling(**options.sampling.as_dict())
    torch.set_num_threads(options.threads)
    torch.backends.cudnn.allow_tf32 = False  # as the main job has it: f-hat must not depend on the batch size
    pair, weights = load(options, device)
    if options.acceptance is not None:
        strategies = with_simulated(strategies, options.acceptance, len(pair.pyramid))
    for strategy in strategies.values():
        check_fit(strategy, sampling, len(pair.pyramid))
    runners: list[Runner] = [StrategyRunner(n, s, pair, sampling, options.images) for n, s in strategies.items()]
    original = load_original(options.original, pair) if options.original is not None else None
    pair.tokenizer.drop_encoder()
    if original:
        runners += original_runners(original, sampling, device, pair.target.dtype)

    def needed(batch: int) -> int:
        ours = max(decode_bytes(pair, strategy, batch, options.images) for strategy in strategies.values())
        # the original runs while our caches are kept, and holds its numbers in float32
        wider = torch.float32.itemsize // pair.target.dtype.itemsize
        return ours + (wider * decode_bytes(pair, sdvar.Baseline(), batch) if original else 0)

    free = free_bytes(device)
    if options.batch_size == "auto":
        options.batch_size = [largest_batch(needed, free)]
        if options.batch_size == [0]:
            raise too_large(1, needed(1), free, 0)
    for batch in options.batch_size:
        check_batch(batch, needed, free)
    return Job(device, pair, weights, sampling, runners, original, needed)


def choose_device(accelerator: str) -> torch.device:
    """Where models run under ``--accelerator``: auto, cpu, cuda or gpu; ValueError if there is no such device."""
    import torch

    available = torch.cuda.is_available()
    if accelerator in ("cuda", "gpu") and not available:
        raise ValueError("accelerator: cuda asked for, but torch finds no GPU; --accelerator cpu needs none")
    return torch.device("cpu" if accelerator == "cpu" or not available else "cuda")


def run(options: Namespace, job: Job) -> dict[str, Any]:
    """Measures everything; returns what the JSON file holds.

    Raises:
        ValueError: if memory runs out.
    """
    from eval.benchmarking.ceilings import measure_ceilings
    from eval.benchmarking.figures import Floors, decoder_dtype
    from lightning_modules.run.environment import describe_environment

    pair = job.pair
    log.info("measuring what the machine reaches")
    ceilings = measure_ceilings(job.device, (pair.target.dtype, decoder_dtype(pair.tokenizer)))
    floors = Floors(pair, ceilings)
    return {
        "models": _describe(options),
        "patch_nums": list(pair.pyramid.patch_nums),
        "settings": {
            "precision": options.precision,
            "tokenizer_dtype": str(decoder_dtype(pair.tokenizer)).removeprefix("torch."),
            "sampling": options.sampling.as_dict(),
            "attention": options.attention,
            "graphs": pair.target.graphs,
            "compile": options.compile,
            "images": options.images,
            "warmup": options.warmup,
            "repeats": options.repeats,
            "simulated_acceptance": options.acceptance,
        },
        "memory_is": "weights of the models that it runs, and the peak beyond what the process held before, "
        + ("allocated on the GPU" if job.device.type == "cuda" else "resident"),
        "ceilings": ceilings._asdict(),
        "results": [entry for batch in options.batch_size for entry in _measure(options, job, batch, floors)],
        "original_tokens": _compare(options, job) if job.original else None,
        "environment": describe_environment(job.device.type, options.threads, job.weights),
    }


def _measure(options: Namespace, job: Job, batch: int, floors: Any) -> list[dict[str, Any]]:
    from eval.benchmarking.figures import runner_figures
    from eval.benchmarking.measuring import measure
    from eval.benchmarking.memory import is_out_of_memory, ran_out

    try:
        measured = measure(job.runners, batch, job.pair.num_classes, job.device, options.warmup, options.repeats)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ran_out(batch, job.needed(batch)) from None
    baseline = measured[job.runners[0].name]
    return [
        runner_figures(runner, measured[runner.name], baseline, batch, floors, options.images) for runner in job.runners
    ]


def _compare(options: Namespace, job: Job) -> dict[str, Any]:
    from eval.benchmarking.measuring import labels_and_seeds
    from eval.benchmarking.original import compare_tokens

    if options.precision != "32-true":
        return {"not_compared": "tokens are compared with --precision 32-true"}
    log.info("comparing tokens with the original's")
    inputs = labels_and_seeds(max(options.batch_size), 0, job.pair.num_classes, job.device)
    return compare_tokens(job.original, job.pair, *inputs, options.sampling.cfg)


def _describe(options: Namespace) -> str:
    if options.random_weights:
        sizes = options.random_weights
        return f"random weights, target {sizes[0]}, draft {sizes[-1]}"
    if options.pair:
        return f"pair {options.pair}"
    return f"target {options.target}, draft {options.draft}"


if __name__ == "__main__":
    main()
