"""The page's head: what was compared, in one sentence, and the verdict: how fast, how near, lossless or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.report.frontier import frontier, points
from eval.report.words import (
    BASELINE,
    DASH,
    compared_arms,
    distance,
    images,
    is_simulated,
    metric_names,
    noise_floor,
    number,
    sameness,
    share,
)

if TYPE_CHECKING:
    from eval.report.run import Run

LINES = 5  # arms that have a sentence of their own; the table has all
LOSSLESS = ("exact", "rounded", "distribution")
LOSSY = ("lossy", "plain")
PROMISES = {
    "exact": "promised and kept: lossless",
    "rounded": "reduced precision: rounding turns picks",
    "distribution": "lossless in distribution",
    "lossy": "lossy by design",
    "plain": "one model alone",
    "simulated": "simulated acceptance",
    "fault": "promised all: a fault",
    "other": "other seeds",
}


def verdict_context(run: Run) -> dict:
    """Values of the head's template: the sentence, the verdict, one arm's key figures, and sentences on the arms."""
    compared = compared_arms(run.arms) if BASELINE in run.arms else []
    verdict = _verdict(run, compared)
    first = _headline(run, compared, verdict)
    best = frontier(points(run.arms))
    order = sorted(compared, key=lambda name: (name != first, name not in best))
    lines = [
        {"arm": name, "words": sameness(run.arms[name])["words"], "clauses": _clauses(run, name)}
        for name in order[:LINES]
    ]
    return {
        "compared": _what(run, compared),
        "verdict": verdict,
        "first": first,
        "tiles": _tiles(run, first),
        "lines": lines,
        "more": len(order) - len(lines),
    }


def _what(run: Run, compared: list[str]) -> dict[str, str]:
    """What was compared, as the words around the name of a single arm."""
    count = images(next(iter(run.arms.values()))["images"])
    if not compared:
        alone = "of the baseline alone, the target model decoding by itself," if BASELINE in run.arms else "an arm"
        return {"before": f"This run holds {count} {alone} and nothing to compare them with.", "arm": "", "after": ""}
    of = f"the baseline, the target model alone, on {count} of the same classes and seeds."
    if len(compared) == 1:
        return {"before": "", "arm": compared[0], "after": f" was compared with {of}"}
    return {"before": f"{len(compared)} ways of decoding were compared with {of}", "arm": "", "after": ""}


def _pick(run: Run, names: list[str], figure: str, best) -> str | None:
    """The arm whose figure is the best of those that have it, or the first."""
    having = [name for name in names if run.arms[name].get(figure) is not None]
    return best(having, key=lambda name: run.arms[name][figure]) if having else next(iter(names), None)


def _verdict(run: Run, compared: list[str]) -> list[dict[str, str]]:
    """One sentence each on the arms that broke a promise, the lossless, the lossy and the simulated ones."""
    kinds = {name: sameness(run.arms[name])["kind"] for name in compared}
    sentences = []

    def say(title: str, before: str, arm: str, after: str) -> None:
        sentences.append({"title": title, "before": before, "arm": arm, "after": after})

    for name in compared:
        if kinds[name] == "fault":
            say("Fault", "", name, f" {sameness(run.arms[name])['words']}.")
    lossless = [name for name in compared if kinds[name] in LOSSLESS]
    if lossless:
        best = _pick(run, lossless, "speed_relative_to_baseline", max)
        which = f"the fastest of {len(lossless)} such arms, " if len(lossless) > 1 else ""
        after = f"{',' if which else ''} {_kept(run.arms[best])} and {_speed(run.arms[best])}."
        say("Lossless", which, best, after)
    lossy = [name for name in compared if kinds[name] in LOSSY]
    if lossy:
        say("Lossy", *_lossy(run, lossy))
    simulated = [name for name in compared if is_simulated(run.arms[name])]
    if simulated:
        best = _pick(run, simulated, "speed_relative_to_baseline", max)
        say("Simulated", "", best, f" {_speed(run.arms[best])}, if a draft were accepted at the rates given; "
            "its images mean nothing.")  # fmt: skip
    if any(text.startswith("speed:") for name in compared for text in run.arms[name].get("warnings", [])):
        say("With care", "the speeds come from too few batches to be quoted.", "", "")
    return sentences


def _lossy(run: Run, names: list[str]) -> tuple[str, str, str]:
    """The fastest arm within the noise floor, else the nearest one; without a floor or distances the fastest."""
    arms, floor, label = run.arms, noise_floor(run.arms), metric_names(run.arms)[0]
    far = {name: arms[name].get("frechet_distance_to_baseline") for name in names}
    within = [name for name, value in far.items() if None not in (floor, value) and value <= floor]
    several = len(names) > 1
    if within:
        best = _pick(run, within, "speed_relative_to_baseline", max)
        lie = "lies" if len(within) == 1 else "lie"
        before = f"{len(within)} of {len(names)} such arms {lie} within the noise floor; the fastest there, "
        after = f"{',' if several else ''} {_speed(arms[best])}, at {_article(label)} of {distance(far[best])}"
        return (before if several else "", best, f"{after} to the baseline (noise floor {distance(floor)}).")
    if floor is not None and any(value is not None for value in far.values()):
        best = _pick(run, names, "frechet_distance_to_baseline", min)
        before = f"none of {len(names)} such arms lies within the noise floor; the nearest, " if several else ""
        after = f"{',' if several else ''} has {_article(label)} of {distance(far[best])} to the baseline, above the "
        return before, best, f"{after}noise floor of {distance(floor)}, and {_speed(arms[best])}."
    best = _pick(run, names, "speed_relative_to_baseline", max)
    before = f"the fastest of {len(names)} such arms, " if several else ""
    after = f"{',' if several else ''} {_speed(arms[best])}"
    if far[best] is None:
        return before, best, f"{after}; this run measured no distance."
    return before, best, (
        f"{after}, at {_article(label)} of {distance(far[best])} to the baseline; this run measured no noise floor to "
        "hold that against."
    )  # fmt: skip


def _kept(arm: dict) -> str:
    """What a lossless arm kept of the baseline, in words that complete "this arm …"."""
    kind, differing = sameness(arm)["kind"], arm.get("images_differing_from_baseline", 0)
    if kind == "distribution":
        return "keeps the baseline's distribution, with draws of its own,"
    if kind == "rounded":
        return f"keeps {share(arm.get('token_agreement_with_baseline'))} of the baseline's tokens in reduced precision"
    but = f", but for near-ties in {differing:,} of them," if differing else ""
    return f"keeps the baseline's tokens in all {images(arm['images'])}{but}"


def _article(label: str) -> str:
    return f"{'an' if label == 'FID' else 'a'} {label}"


def _speed(arm: dict) -> str:
    """The speed, in words that complete "this arm …"."""
    speed = arm.get("speed_relative_to_baseline")
    if speed is None:
        return "was not timed"
    if round(speed, 2) == 1:
        return "is as fast as the baseline (1.00 times its speed)"
    return f"is {'faster' if speed > 1 else 'slower'} than the baseline ({speed:.2f} times its speed)"


def _headline(run: Run, compared: list[str], verdict: list[dict[str, str]]) -> str | None:
    """The arm that the key figures are of: the first that the verdict names."""
    return next((sentence["arm"] for sentence in verdict if sentence["arm"]), next(iter(compared), None))


def _tiles(run: Run, first: str | None) -> list[dict]:
    """Key figures of an arm; without one, of a baseline that stands alone."""
    arms, floor, label = run.arms, noise_floor(run.arms), metric_names(run.arms)[0]
    times = "\N{MULTIPLICATION SIGN}"
    at_batch = f"at batch size {run.metrics['batch_size']}"
    if first is None:
        arm = next(iter(arms.values()))
        rows = [
            ("Images a second", number(arm.get("images_per_second"), 1), f"a process, {at_batch}"),
            (f"{label} to the reference", distance(arm.get("frechet_distance_to_reference")), ""),
            (metric_names(arms)[1], number(arm.get("inception_score_mean"), 2), ""),
        ]
    else:
        arm, baseline, state = arms[first], arms[BASELINE], sameness(arms[first])
        speed, far = arm.get("speed_relative_to_baseline"), arm.get("frechet_distance_to_baseline")
        floor_note = f"noise floor {distance(floor)}" if floor is not None else "no noise floor measured"
        calls = f"baseline {number(baseline.get('target_calls_mean'), 2)}"
        rows = [
            ("Speed", DASH if speed is None else f"{speed:.2f} {times}", f"of the baseline, {at_batch}"),
            (f"{label} to the baseline", distance(far), floor_note if far is not None else ""),
            ("Tokens as the baseline", share(arm.get("token_agreement_with_baseline")), PROMISES[state["kind"]]),
            ("Target calls an image", number(arm.get("target_calls_mean"), 2), calls),
        ]
        if state["kind"] == "fault":
            rows[2] += (True,)
        if state["kind"] == "simulated":  # its images mean nothing
            rows = [rows[0], rows[3]]
    return [
        {"title": title, "value": value, "note": note, "fault": bool(fault)}
        for title, value, note, *fault in rows
        if value != DASH
    ]


def _clauses(run: Run, name: str) -> str:
    """Calls, speed and distance of one arm, as words that complete "it …"."""
    arm, baseline, floor = run.arms[name], run.arms.get(BASELINE, {}), noise_floor(run.arms)
    calls, of_baseline = arm.get("target_calls_mean"), baseline.get("target_calls_mean")
    speed, far = arm.get("speed_relative_to_baseline"), arm.get("frechet_distance_to_baseline")
    parts = []
    if calls is not None and of_baseline is not None:
        parts.append(f"needs {calls:.2f} target calls instead of {of_baseline:g}")
    if speed is not None:
        parts.append(f"runs at {speed:.2f} times the baseline's speed")
    if far is not None and not is_simulated(arm):
        beside = f", beside a noise floor of {distance(floor)}" if floor is not None else ""
        parts.append(f"has {_article(metric_names(run.arms)[0])} of {distance(far)} to the baseline{beside}")
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))
