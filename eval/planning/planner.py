"""A plan from its options to what is printed and written: measure, search, measure again."""

from __future__ import annotations

import logging

from jsonargparse import Namespace

import sdvar
from eval.benchmarking.models import choose_device, load
from eval.estimates.memory import check_batch, decode_bytes, free_bytes, naming_the_batch
from eval.estimates.simulated import per_scale, with_simulated
from eval.planning.result import print_plan, tokens_line, verdict, write_config
from lightning_modules.run.environment import describe_environment
from sdvar.decoding.guidance_inside import mismatch
from sdvar.engine import tf32_allowed
from sdvar.planning.agreement import measure_agreement, simulated_agreement
from sdvar.planning.candidates import find_candidates, lossy_strategies
from sdvar.planning.comparison import TURNS, choose, compare
from sdvar.planning.probe import measure_costs

log = logging.getLogger("sdvar.planning")


def prepare(options: Namespace) -> tuple[sdvar.ModelPair, sdvar.Sampling]:
    """Loads the models and checks the options against them.

    Raises:
        ValueError, TypeError, OSError: with one line that says what is wrong.
    """
    sampling = sdvar.Sampling(**options.sampling.as_dict())
    device = choose_device(options.accelerator)
    pair, _ = load(options, device)
    scales = len(pair.pyramid)
    if scales < 2:
        raise ValueError("expected a pair of at least two scales: of a single one nothing is drafted")
    sampling.check_scales(scales)
    if text := mismatch(sdvar.Speculative(max_disagreement=options.max_disagreement), sampling, pair):
        log.warning(text)
    if options.acceptance:
        per_scale(options.acceptance, scales)
    check_batch(options.batch_size, lambda batch: _needed_bytes(pair, batch), free_bytes(device))
    return pair, sampling


def run(options: Namespace, pair: sdvar.ModelPair, sampling: sdvar.Sampling) -> None:
    """Measures and searches; prints the result and writes the config.

    Raises:
        ValueError: if memory runs out.
    """
    asked = sdvar.Speculative(max_disagreement=options.max_disagreement)
    batch, simulated, scales = options.batch_size, bool(options.acceptance), len(pair.pyramid)
    with tf32_allowed(options.tf32), naming_the_batch(batch, lambda batch: _needed_bytes(pair, batch)):
        log.info("measuring costs for %.0f s", options.seconds)
        costs = measure_costs(pair, sampling, batch, options.seconds, handoffs=options.max_disagreement > 0)
        if simulated:
            agreement = simulated_agreement(per_scale(options.acceptance, scales), options.images)
        else:
            log.info("measuring agreement on %d images", options.images)
            lossy = lossy_strategies(scales) if options.max_disagreement else []
            agreement = measure_agreement(pair, sampling, options.images, batch, lossy)
        candidates = find_candidates(agreement, costs, pair.pyramid, asked)
        strategies = {one.name: one.strategy for one in candidates}
        log.info("measuring %s", ", ".join(strategies))
        decoded = with_simulated(strategies, options.acceptance, scales) if simulated else strategies
        timed = compare(decoded, pair, sampling, batch, options.seconds, TURNS)
    best = choose(list(strategies), timed)
    chosen = next(one for one in candidates if one.name == best)

    lines = verdict(chosen, candidates, timed)
    if simulated:
        lines.append("Acceptance is simulated: these are the times of a draft that good, not of this one.")
    elif not chosen.plain:
        lines.append(tokens_line(chosen, timed[best]))
    environment = describe_environment(pair.device.type, options.threads, {})
    machine = f"{environment.get('gpu', environment['processor'])} ({environment['device']}, {options.threads} threads)"
    head = f"batch {batch}, {options.precision}, on {machine}, agreement on {options.images} images"
    print_plan(head, agreement, candidates, chosen, timed, lines, simulated)
    if not options.out:
        return
    if chosen.plain:
        chosen = min((one for one in candidates if not one.plain), key=lambda one: timed[one.name].median)
        lines.append(f"The arm beside it is the fastest other one, {chosen.name}.")
    write_config(options.out, options, chosen.strategy, [f"From eval/plan.py: {head}.", *lines])
    print(f"eval/fid.py --config {options.out} runs it.")


def _needed_bytes(pair: sdvar.ModelPair, batch: int) -> int:
    return decode_bytes(pair, sdvar.Speculative(), batch, images=False)
