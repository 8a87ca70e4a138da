"""The section with the results of every arm: its tables, the repeats, and the warnings that belong to them."""

from __future__ import annotations

from eval.report.run import Run
from eval.report.words import BASELINE, DASH, distance, is_simulated, metric_names, noise_floor, number, sameness, share
from eval.report.words import is_reseeded_baseline, which

REPEATED = {
    "frechet_distance_to_baseline": "distance to the baseline",
    "frechet_distance_to_reference": "distance to the real images",
    "inception_score_mean": "score",
}
FID, KID = "frechet_distance_to", "kernel_inception_distance_to"
FORMATS = {
    "target_calls_mean": ("Target calls", lambda value: number(value, 2)),
    "draft_calls_mean": ("Draft calls", lambda value: number(value, 2)),
    "target_tokens_mean": ("Target tokens", lambda value: number(value, 0)),
    "draft_tokens_mean": ("Draft tokens", lambda value: number(value, 0)),
    "token_agreement_with_baseline": ("Matching tokens", share),
    f"{FID}_baseline": ("to baseline", distance),
    f"{FID}_reference": ("to real images", distance),
    "inception_score_mean": ("", lambda value: number(value, 2)),
    "images_per_second": ("Images / s, per process", lambda value: number(value, 1)),
    "seconds_per_batch_median": ("Latency per batch, s", lambda value: number(value, 3)),
    "speed_relative_to_baseline": ("Relative to baseline", lambda value: number(value, 2)),
    f"{KID}_baseline_mean": ("to baseline", lambda value: number(value and 1000 * value, 3)),
    f"{KID}_reference_mean": ("to real images", lambda value: number(value and 1000 * value, 3)),
    "precision": ("Precision", share),
    "recall": ("Recall", share),
    "identical_images": ("Identical", lambda value: number(value, 0)),
    "psnr_mean": ("PSNR of the others, dB", lambda value: number(value, 2)),
    "ssim_mean": ("SSIM", lambda value: number(value, 4)),
    "mean_absolute_difference": ("Mean difference", lambda value: share(value)),
}


def section(run: Run) -> dict:
    """Values of the section's template; a warning that several arms share is given once, above the tables."""
    arms, floor, (label, score) = run.arms, noise_floor(run.arms), metric_names(run.arms)
    warned: dict[str, list[str]] = {}
    for name, arm in arms.items():
        for text in arm.get("warnings", []):
            warned.setdefault(text, []).append(name)
    against = next((arm["precision_recall_against"] for arm in arms.values() if "precision" in arm), "")
    results = _table(run, "Results by arm", {
        "Work per image": ["target_calls_mean", "draft_calls_mean", "target_tokens_mean", "draft_tokens_mean"],
        "Tokens": ["token_agreement_with_baseline"],
        label: [f"{FID}_baseline", f"{FID}_reference"],
        score: ["inception_score_mean"],
        f"Speed, batch size {run.metrics['batch_size']}":
            ["images_per_second", "seconds_per_batch_median", "speed_relative_to_baseline"],
    })  # fmt: skip
    similarity = _table(run, "Further distances, and similarity to the baseline's images", {
        f"{_kernel_name(label)} \N{MULTIPLICATION SIGN} 1,000": [f"{KID}_baseline_mean", f"{KID}_reference_mean"],
        f"Compared with the {'real images' if against == 'reference' else against}": ["precision", "recall"],
        "Compared with the baseline's image of the same seed":
            ["identical_images", "psnr_mean", "ssim_mean", "mean_absolute_difference"],
    })  # fmt: skip
    return {
        "results": results,
        "similarity": similarity,
        "arms": [
            {"name": name, "text": arm["strategy"], "reseeded": is_reseeded_baseline(arms, name),
             "own": {what: arm[what] for what in ("draft", "sampling") if what in arm}}
            for name, arm in arms.items()
        ],
        "kinds": {name: sameness(arm)["kind"] for name, arm in arms.items() if BASELINE in arms and name != BASELINE},
        "warnings": {name: [text for text, names in warned.items() if names == [name]] for name in arms},
        "shared": [{"arms": which(names, arms), "text": text} for text, names in warned.items() if len(names) > 1],
        "simulated": [name for name in arms if is_simulated(arms[name])],
        "floor": None if floor is None else distance(floor),
        "extractor": label.partition("(")[2].rstrip(")"),
        "repeats": _repeats(run),
    }  # fmt: skip


def _kernel_name(label: str) -> str:
    """Name of the kernel distance beside that of the Fréchet distance: plain KID only where that is plain FID."""
    return "KID" if label == "FID" else label.replace("Fréchet", "Kernel")


def _cell(arm: dict, key: str) -> str:
    """A value, with its spread if the arm has one."""
    write, spread = FORMATS[key][1], arm.get(key.replace("_mean", "_std"))
    text = write(arm.get(key)).replace("-0.000", "0.000")
    return text if text == DASH or spread is None or not key.endswith("_mean") else f"{text} ± {write(spread)}"


def _table(run: Run, title: str, groups: dict[str, list[str]]) -> dict | None:
    """A table with a row per arm, and one for the real images if they have a value in it; None without any column."""
    having = set().union(*(
        (key for key, value in arm.items() if value is not None) for arm in run.arms.values()))  # fmt: skip
    groups = {group: [key for key in keys if key in having] for group, keys in groups.items()}
    groups = {group: keys for group, keys in groups.items() if keys}
    keys = [key for keys in groups.values() for key in keys]
    rows = {name: [_cell(arm, key) for key in keys] for name, arm in run.arms.items()}
    reference = run.metrics.get("reference") or {}
    if any(key in reference for key in keys):
        rows[f"real images ({reference['images']:,})"] = [_cell(reference, key).replace(DASH, "") for key in keys]
    starts = [sum(map(len, list(groups.values())[:index])) for index in range(len(groups))]
    return {
        "title": title,
        "groups": [(group, len(keys)) for group, keys in groups.items()],
        "columns": [FORMATS[key][0] for key in keys],
        "starts": starts,
        "rows": rows,
    } if keys else None  # fmt: skip


def _repeats(run: Run) -> dict | None:
    """Mean and range of the metrics that repeats have."""
    rows = []
    for name, arm in run.arms.items():
        for key, title in REPEATED.items():
            spread = arm.get("repeats", {}).get(key)
            if spread:
                rows.append([name, title, *(distance(spread[what]) for what in ("mean", "min", "max"))])
    first = next(iter(run.arms.values()))
    return {"count": first["repeats"]["count"], "images": first["repeats"]["images"], "rows": rows} if rows else None
