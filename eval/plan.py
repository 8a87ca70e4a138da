"""Finds the fastest schedule for a pair, a batch size and this machine, and writes a config for the main job.

    python eval/plan.py                                        # the bundled pair at batch 50, lossless
    python eval/plan.py --batch_size 1 --max_disagreement 0.3 --out lossy.yaml
    python eval/plan.py --draft var_d16.pth --target var_d30.pth --tokenizer vae_ch160v4096z32.pth \\
        --precision bf16-true --batch_size 1
    python eval/fid.py --config plan.yaml
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from jsonargparse import Namespace

from eval.planning.options import parse

if TYPE_CHECKING:  # heavy: only imported once the options are known to be good
    import sdvar

log = logging.getLogger("eval.plan")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; see `python eval/plan.py --help`."""
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
        pair, sampling = prepare(options)
        _log_to_stderr()
        _run_in_memory(options, pair, sampling)
    except (ValueError, TypeError, OSError) as error:
        _stop(error)


def _stop(error: Exception) -> NoReturn:
    print(f"eval/plan.py: error: {error}", file=sys.stderr)
    sys.exit(2)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)


def prepare(options: Namespace) -> tuple[sdvar.ModelPair, sdvar.Sampling]:
    """Loads the models and checks the options against them.

    Raises:
        ValueError, TypeError, OSError: with one line that says what is wrong.
    """
    import torch

    import sdvar
    from eval.benchmark import choose_device
    from eval.benchmarking.memory import check_batch, free_bytes
    from eval.benchmarking.models import load

    sampling = sdvar.Sampling(**options.sampling.as_dict())
    device = choose_device(options.accelerator)
    torch.set_num_threads(options.threads)
    torch.backends.cudnn.allow_tf32 = False  # as the main job has it
    pair, _ = load(options, device)
    scales = len(pair.pyramid)
    if scales < 2:
        raise ValueError("expected a pair of at least two scales: of a single one nothing is drafted")
    sampling.check_scales(scales)
    if options.acceptance and len(options.acceptance) not in (1, scales):
        raise ValueError(f"acceptance: expected one rate or {scales}, one a scale, got {len(options.acceptance)}")
    check_batch(options.batch_size, lambda batch: _needed_bytes(pair, batch), free_bytes(device))
    return pair, sampling


def _run_in_memory(options: Namespace, pair: sdvar.ModelPair, sampling: sdvar.Sampling) -> None:
    from eval.benchmarking.memory import is_out_of_memory, ran_out

    try:
        run(options, pair, sampling)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ran_out(options.batch_size, _needed_bytes(pair, options.batch_size)) from None


def _needed_bytes(pair: sdvar.ModelPair, batch: int) -> int:
    import sdvar
    from eval.benchmarking.memory import decode_bytes

    return decode_bytes(pair, sdvar.Speculative(), batch, images=False)


def run(options: Namespace, pair: sdvar.ModelPair, sampling: sdvar.Sampling) -> None:
    """Measures, searches, measures again; prints the result and writes the config."""
    from eval.benchmarking.simulated import with_simulated
    from eval.planning.agreement import measure_agreement, simulated_agreement
    from eval.planning.candidates import find_candidates, lossy_strategies
    from eval.planning.output import print_plan, tokens_line, verdict, write_config
    from eval.planning.probe import measure_costs
    from eval.planning.timing import choose, compare
    from lightning_modules.run.environment import describe_environment

    batch, rates, scales = options.batch_size, options.acceptance, len(pair.pyramid)
    log.info("measuring costs for %.0f s", options.seconds)
    costs = measure_costs(pair, sampling, batch, options.seconds, handoffs=options.max_disagreement > 0)
    if rates:
        rates = rates if len(rates) == scales else rates * scales
        agreement = simulated_agreement(rates, options.images)
    else:
        log.info("measuring agreement on %d images", options.images)
        lossy = lossy_strategies(scales) if options.max_disagreement else []
        agreement = measure_agreement(pair, sampling, options.images, batch, lossy)
    candidates = find_candidates(agreement, costs, pair.pyramid, options.max_disagreement)
    strategies = {one.name: one.strategy for one in candidates}
    log.info("measuring %s", ", ".join(strategies))
    timed = compare(with_simulated(strategies, rates, scales) if rates else strategies, pair, sampling, batch,
                    options.seconds)  # fmt: skip
    by_name = {one.name: one for one in candidates}
    chosen = by_name[choose(list(by_name), timed)]

    environment = describe_environment(pair.device.type, options.threads, {})
    lines = verdict(chosen, candidates, timed)
    if rates:
        lines = [*lines, "Acceptance is simulated: these are the times of a draft that good, not of this one."]
    elif not chosen.plain:
        lines.append(tokens_line(chosen, timed[chosen.name]))
    machine = f"{environment.get('gpu', environment['processor'])} ({environment['device']}, {options.threads} threads)"
    head = f"batch {batch}, {options.precision}, on {machine}, agreement on {options.images} images"
    print_plan(head, agreement, candidates, chosen, timed, lines, simulated=bool(rates))
    if not options.out:
        return
    arm = chosen
    if chosen.plain:
        arm = min((one for one in candidates if not one.plain), key=lambda one: timed[one.name].median)
        lines.append(f"The arm beside it is the fastest other one, {arm.name}.")
    write_config(options.out, options, arm.strategy, [f"From eval/plan.py: {head}.", *lines])
    print(f"eval/fid.py --config {options.out} runs it.")


if __name__ == "__main__":
    main()
