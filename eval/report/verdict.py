"""The page's head: what was compared, and the verdict in a sentence per kind of arm: how fast, how close, lossless?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath

from eval.report.run import Run
from eval.report.tradeoff import frontier, points
from eval.report.words import (
    COLUMNS,
    DASH,
    DIFFERENCE,
    FAR,
    SPEED,
    all_images,
    compared_arms,
    difference,
    images,
    is_plain,
    metric_names,
    noise_floor,
    place,
    sameness,
    share,
    shown,
    signed,
    too_few_batches,
    too_few_images,
)
from lightning_modules.run.names import BASELINE

GAIN = 1.02  # times the baseline's speed, from which an arm is called faster at the page's head
LINES = 5  # arms that have a sentence of their own; the table lists all
LOSSLESS = ("exact", "rounded", "distribution")
LOSSY = ("lossy", "plain")
REFUTED = 1e-3  # p-value of the audit below which a lossless arm is not what it promises
PROMISES = {
    "exact": "lossless, as promised",
    "rounded": "rounding in reduced precision",
    "distribution": "lossless in distribution",
    "lossy": "lossy by design",
    "plain": "one model alone",
    "fault": "should be 100 %: a fault",
}


def section(run: Run) -> dict:
    """Values of the head's template. Every sentence begins with the name of an arm, or has none."""
    compared = compared_arms(run.arms) if BASELINE in run.arms else []
    verdict = _verdict(run, compared)
    first = _first(run, verdict) or next(iter(compared), None)
    best = frontier(points(run.arms))
    order = sorted(compared, key=lambda name: (name != first, name not in best))
    return {
        "compared": _compared(run, compared),
        "facts": _facts(run),
        "verdict": verdict,
        "first": first,
        "tiles": _tiles(run, first) if first else _tiles_of_one_arm(run),
        "lines": [{"arm": name, "text": _line(run, name)} for name in order[:LINES]],
        "more": len(order[LINES:]),
    }


def _first(run: Run, verdict: list[dict[str, str]]) -> str | None:
    """The arm of the key metrics, the best that the run found: one at fault, else the first that gains.

    A lossy arm is none of the best where its distance says nothing, nor is one model alone.
    """
    named = [sentence for sentence in verdict if sentence["arm"]]
    unclear = {one["arm"] for one in named if one["title"] == "Lossy" and _unclear(run, one["arm"])}
    gaining = (
        one for one in named if one["title"] == "Fault" or (one["arm"] not in unclear and _gains(run.arms[one["arm"]]))
    )
    return next(gaining, next(iter(named), {"arm": None}))["arm"]


def _unclear(run: Run, name: str) -> bool:
    arm = run.arms[name]
    return is_plain(arm) or (
        arm.get(FAR) is not None and too_few_images(run.arms) is not None and place(run.arms, name) is None
    )


def _gains(arm: dict) -> bool:
    return (arm.get(SPEED) or 0) >= GAIN and _is_timed(arm) and not _drafts_nothing(arm)


def _is_timed(arm: dict) -> bool:
    """Whether the speed is another one than the baseline's: in enough batches, by its 95 % interval."""
    low, high = arm.get(f"{SPEED}_interval") or (arm[SPEED], arm[SPEED])
    return not low <= 1 <= high and not too_few_batches(arm)


def _drafts_nothing(arm: dict) -> bool:
    """Whether speculation was given up before the run: the arm decodes as the baseline does."""
    return arm["kind"] == "speculative" and arm["lossless"] and arm["draft_calls_mean"] == 0


def _compared(run: Run, compared: list[str]) -> dict[str, str]:
    count = images(next(iter(run.arms.values()))["images"])
    if BASELINE not in run.arms:
        return {"arm": "", "text": f"This run has {count} per arm and no baseline to compare them with."}
    if not compared:
        return {"arm": "", "text": f"This run has {count} from the baseline, the target model alone, and nothing to "
                "compare them with."}  # fmt: skip
    one = compared[0] if len(compared) == 1 else ""
    those = f"the baseline, the target model alone, on {count} with the same classes and seeds."
    return {"arm": one, "text": f"{'is' if one else f'{len(compared)} arms are'} compared with {those}"}


def _facts(run: Run) -> dict[str, str]:
    """What the page is about, at its head: models, sampling, machine, date, images."""
    config, environment = run.metrics.get("config") or {}, run.metrics.get("environment") or {}
    files = ", ".join(PurePath(str(config[name])).name for name in ("target", "draft", "tokenizer") if config.get(name))
    pair, sampling = f"the bundled pair {config['pair']}" if config.get("pair") else "", config.get("sampling") or {}
    measured = (run.metrics.get("measured_on") or {}).get("date") or environment.get("date")
    facts = {
        "Models": " with ".join(filter(None, (pair, files))),
        "Sampling": ", ".join(f"{name} {_number(value)}" for name, value in sampling.items()),
        "Decoded on": environment.get("gpu") or environment.get("processor") or environment.get("device", ""),
        "Measured": measured or "",
        "Images": f"{next(iter(run.arms.values()))['images']:,} per arm",
    }
    return {name: text for name, text in facts.items() if text}


def _number(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_number, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _best(run: Run, names: list[str], metric: str, best: Callable) -> str:
    """The arm with the best value of a metric; the first where none has it."""
    having = [name for name in names if run.arms[name].get(metric) is not None]
    return best(having, key=lambda name: run.arms[name][metric]) if having else names[0]


def _verdict(run: Run, compared: list[str]) -> list[dict[str, str]]:
    """A sentence on each arm with a fault, and one on the lossless, the lossy and the simulated arms."""
    states = {name: sameness(run.arms[name]) for name in compared}
    found = [("Fault", name, state["words"]) for name, state in states.items() if state["kind"] == "fault"]
    for title, kinds, sentence in (
        ("Lossless", LOSSLESS, _lossless),
        ("Lossy", LOSSY, _lossy),
        ("Simulated", ("simulated",), _simulated),
    ):
        names = [name for name in compared if states[name]["kind"] in kinds]
        if names:
            found.append((title, *sentence(run, names)))
    if any(too_few_batches(run.arms[name]) for name in compared):
        found.append(("Caution", "", "There are too few batches to quote the speeds"))
    return [{"title": title, "arm": arm, "text": f"{text}."} for title, arm, text in found]


def _lossless(run: Run, names: list[str]) -> tuple[str, str]:
    arm = _best(run, names, SPEED, max)
    if _drafts_nothing(run.arms[arm]):
        text = f"{_kept(run.arms[arm])} and drafts nothing: speculation was not found to pay {_where(run)}"
    else:
        text = f"{_kept(run.arms[arm])} and {_speed(run.arms[arm])}"
    fastest = len(names) > 1 and not too_few_batches(run.arms[arm])
    return arm, text + (f"; it is the fastest of {len(names)} lossless arms" if fastest else "")


def _where(run: Run) -> str:
    """The batch sizes, in words that complete "speculation was not found to pay …", and what batch size 1 gave."""
    here, at_one = f"at batch size {run.metrics['batch_size']}", run.metrics.get("speculation_at_batch_1")
    if not at_one:
        return here
    if not at_one["pays"]:
        return f"{here}, nor at 1 ({at_one['reason']})"
    speed = f"{at_one['speed']:.2f} \N{PLUS-MINUS SIGN} {at_one['speed_noise']:.2f}"
    return f"{here}; at batch size 1 it does, at {speed} times the baseline's speed"


def _simulated(run: Run, names: list[str]) -> tuple[str, str]:
    arm = _best(run, names, SPEED, max)
    return arm, f"{_speed(run.arms[arm])}, given a draft with these acceptance rates; its images are meaningless"


def _lossy(run: Run, names: list[str]) -> tuple[str, str]:
    """The fastest arm not above the noise floor, else the closest one; without a floor or distances the fastest.

    One model alone is no speculation: it is named where there is nothing else, and never said to be close enough. With
    few images no arm is chosen by its distance.
    """
    names = [name for name in names if not is_plain(run.arms[name])] or names[:1]
    floor, count = noise_floor(run.arms), len(names)
    far = {name: run.arms[name].get(FAR) for name in names}
    if is_plain(run.arms[names[0]]):
        distance = f", with {_article(run)} of {shown(FAR, far[names[0]])} to the baseline" if far[names[0]] else ""
        return names[0], f"is one model alone and {_speed(run.arms[names[0]])}{distance}"
    places = {name: place(run.arms, name) for name in names}
    within = [name for name in names if places[name] in ("below", "near")]
    above = all(where == "above" for where in places.values())
    why = too_few_images(run.arms)
    if far[names[0]] is not None and why and not within and not above:
        arm = _best(run, names, SPEED, max)
        text = f"{_speed(run.arms[arm])}, with {_article(run)} of {shown(FAR, far[arm])} to the baseline; {why}"
        if too_few_batches(run.arms[arm]):
            return arm, text + (f", and there are too few batches to rank the {count} lossy arms" if count > 1 else "")
        return arm, text + (f", so the {count} lossy arms are compared by their speed alone" if count > 1 else "")
    arm = _best(run, names, FAR, min) if above else _best(run, within or names, SPEED, max)
    speed, of_floor = _speed(run.arms[arm]), f"the noise floor of {shown(FAR, floor)}"
    near = f"{_article(run)} of {shown(FAR, far[arm])} to the baseline"
    if above:
        text, rank = f"has {near}, above {of_floor}, and {speed}", f"the closest of {count} lossy arms, all above it"
    elif within:
        ones = "the only one" if len(within) == 1 else f"the fastest of the {len(within)}"
        beside = "below" if places[arm] == "below" else "not clearly different from"
        those = "clearly below" if why else "not above"
        text, rank = f"{speed}, with {near}, {beside} {of_floor}", f"{ones} {those} it, of {count} lossy arms"
    elif far[arm] is None:
        text, rank = f"{speed}; this run measures no distance", f"the fastest of {count} lossy arms"
    else:
        text = f"{speed}, with {near}; this run has no noise floor to compare it with"
        rank = f"the fastest of {count} lossy arms"
    if too_few_batches(run.arms[arm]):
        rank = rank.replace("the fastest of the", "one of the") if within else rank if above else ""
    if DIFFERENCE in run.arms[arm]:
        text += f"; distance to the reference against the baseline's: {difference(run.arms[arm])}"
    return arm, text + (f"; it is {rank}" if count > 1 and rank else "")


def _kept(arm: dict) -> str:
    """What a lossless arm kept of the baseline, in words that complete "this arm …"."""
    kind, differing = sameness(arm)["kind"], arm["images_differing_from_baseline"]
    if kind == "distribution":
        return f"keeps the baseline's distribution, with its own random draws{_audited(arm)},"
    if kind == "rounded":
        return f"keeps {share(arm['token_agreement_with_baseline'])} of the baseline's tokens in reduced precision"
    ties = f", up to near-ties in {differing:,} of them," if differing else ""
    return f"keeps the baseline's tokens in {all_images(arm['images'])}{ties}"


def _audited(arm: dict) -> str:
    """What the likelihood audit of a lossless arm says, in brackets; empty where there was none."""
    p_value, interval = (arm.get(key) for key in ("likelihood_smallest_p_value", "excess_nats_per_token_interval"))
    if p_value is None:
        return ""
    seen = "no departure from the target seen" if p_value >= REFUTED else "the likelihood audit contradicts it"
    if interval is None:
        return f" ({seen}: p = {p_value:.2g})"
    low, high = (signed(COLUMNS["excess_nats_per_token"].number(bound)) for bound in interval)
    return f" ({seen}: p = {p_value:.2g}, excess of {low} … {high} nats per token)"


def _article(run: Run) -> str:
    label = metric_names(run.arms)[0]
    return f"{'an' if label == 'FID' else 'a'} {label}"


def _speed(arm: dict) -> str:
    """The speed, in words that complete "this arm …"."""
    speed = arm.get(SPEED)
    if speed is None:
        return "was not timed"
    if round(speed, 2) == 1:
        return "is as fast as the baseline (1.00 times its speed)"
    if not _is_timed(arm):
        low, high = arm.get(f"{SPEED}_interval") or (speed, speed)
        seen = f", no difference seen (95 % interval {low:.2f} … {high:.2f})" if low <= 1 <= high else ""
        return f"ran at {speed:.2f} times the baseline's speed{seen}"
    return f"is {'faster' if speed > 1 else 'slower'} than the baseline ({speed:.2f} times its speed)"


def _tile(title: str, value: str, note: str, fault: bool = False) -> dict:
    return {"title": title, "value": value, "note": note, "fault": fault}


def _tiles(run: Run, first: str) -> list[dict]:
    """Key metrics of the arm that the verdict names first."""
    arm, floor, kind = run.arms[first], noise_floor(run.arms), sameness(run.arms[first])["kind"]
    speed = f"{arm[SPEED]:.2f} \N{MULTIPLICATION SIGN}" if arm.get(SPEED) is not None else DASH
    tiles = [_tile("Speed", speed, f"relative to the baseline, at batch size {run.metrics['batch_size']}")]
    if kind != "simulated":  # its images are meaningless
        note = "no noise floor measured" if floor is None else f"noise floor {shown(FAR, floor)}"
        agreement = share(arm.get("token_agreement_with_baseline"))
        tiles += [
            _tile(f"{metric_names(run.arms)[0]} to the baseline", shown(FAR, arm.get(FAR)), note),
            _tile("Tokens matching the baseline", agreement, PROMISES.get(kind, ""), kind == "fault"),
        ]
    calls = f"baseline {shown('target_calls_mean', run.arms[BASELINE])}"
    tiles.append(_tile("Target calls per image", shown("target_calls_mean", arm), calls))
    return [tile for tile in tiles if tile["value"] != DASH]


def _tiles_of_one_arm(run: Run) -> list[dict]:
    """Key metrics of a run that compares nothing."""
    arm, (label, score) = next(iter(run.arms.values())), metric_names(run.arms)
    tiles = [
        _tile("Images per second", shown("images_per_second", arm),
              f"per process, at batch size {run.metrics['batch_size']}"),
        _tile(f"{label} to the reference", shown("frechet_distance_to_reference", arm), ""),
        _tile(score, shown("inception_score_mean", arm.get("inception_score_mean")), ""),
    ]  # fmt: skip
    return [tile for tile in tiles if tile["value"] != DASH]


def _line(run: Run, name: str) -> str:
    """Tokens, calls, speed and distance of an arm, in words that follow its name."""
    arm, baseline, floor = run.arms[name], run.arms[BASELINE], noise_floor(run.arms)
    state = sameness(arm)
    calls, plain = arm["target_calls_mean"], baseline["target_calls_mean"]
    fewer = f"{calls:.2f} target calls instead of {plain:g}"
    parts = [f"needs {fewer if calls != plain else f'{plain:g} target calls'}"]
    if arm.get(SPEED) is not None:
        parts.append(f"runs at {arm[SPEED]:.2f} times the baseline's speed")
    if arm.get(FAR) is not None and state["kind"] != "simulated":
        beside = f" (noise floor {shown(FAR, floor)})" if floor is not None else ""
        parts.append(f"has {_article(run)} of {shown(FAR, arm[FAR])} to the baseline{beside}")
    return f"{state['words']}; it {' and '.join(filter(None, (', '.join(parts[:-1]), parts[-1])))}."
