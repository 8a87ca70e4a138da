"""A finished run made up for the report's tests: invented values, drawn shapes, no model."""

import csv
import json

import numpy as np
from PIL import Image

PATCH_NUMS = [1, 2, 3, 4, 6, 8]
CLASS_NAMES = ["Disc", "Ring", "Bar", "Cross"]


def draw(label, seed):
    """A 32 x 32 grey picture of a class."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:32, :32] - 15.5
    radius = np.hypot(x - rng.integers(-3, 4), y - rng.integers(-3, 4))
    shapes = (radius < 9, abs(radius - 9) < 2.5, abs(x) < 4, (abs(x) < 3) | (abs(y) < 3))
    picture = shapes[label] * rng.integers(150, 250) + rng.integers(0, 20, (32, 32))
    return picture.clip(0, 255).astype(np.uint8)


def arm_metrics(**changes):
    """Made-up values of one arm."""
    return {
        "strategy": "Baseline(model='target')",
        "kind": "target",
        "arm": {"class_path": "sdvar.Baseline", "init_args": {"model": "target"}},
        "lossless": True,
        "exact": True,
        "images": 40,
        "inception_score_mean": 8.412,
        "inception_score_std": 0.214,
        "frechet_distance_to_reference": 2.271,
        "feature_extractor": "fashion-mnist-128",
        "class_accuracy_per_class": [1.0, 0.9, 0.7, 0.8],
        "target_calls_mean": 6.0,
        "draft_calls_mean": 0.0,
        "target_tokens_mean": 130.0,
        "draft_tokens_mean": 0.0,
        "target_calls_images": [0, 0, 0, 0, 0, 0, 40],
        "seconds_per_scale": {
            "draft": [0.0] * 6,
            "target": [0.02, 0.03, 0.04, 0.08, 0.21, 0.38],
            "sampling": [0.001, 0.002, 0.004, 0.006, 0.01, 0.015],
        },
        "seconds_of_no_scale": {"conditioning": 0.003, "tokenizer": 0.08, "other": 0.017},
        "images_per_second": 71.3,
        "seconds_per_batch_median": 0.898,
        "speed_relative_to_baseline": 1.0,
        "agreement_per_scale": [None] * 6,
        "accepted_scales_per_scale": [None] * 6,
        "images_differing_from_baseline": 0,
        "near_tie_images": 0,
        "largest_first_difference_gap": None,
        "warnings": [
            "Inception Score (fashion-mnist-128) reads low: 40 images",
            "Fréchet distance to the baseline: 40 images",
        ],
    } | changes


def speculative(rule, **arguments):
    """The config of a Speculative arm."""
    acceptance = {"class_path": rule, "init_args": arguments}
    return {"class_path": "sdvar.Speculative", "init_args": {"gamma": 2, "acceptance": acceptance}}


SIMULATED = {
    "strategy": "Speculative(gamma=2, acceptance=Simulated(rates=(0.9,)))",
    "arm": speculative("eval.estimates.simulated.Simulated", rates=[0.9]),
}


def arms():
    """Made-up values of the five default arms."""
    drafted = {"draft_calls_mean": 4.61, "draft_tokens_mean": 98.0}
    drafted |= {
        "seconds_per_scale": {
            "draft": [0.01, 0.01, 0.02, 0.03, 0.04, 0.0],
            "target": [0.03, 0.04, 0.07, 0.14, 0.29, 0.43],
            "sampling": [0.002, 0.003, 0.006, 0.008, 0.016, 0.02],
        }
    }
    return {
        "baseline": arm_metrics(
            token_agreement_with_baseline=1.0, warnings=["Inception Score (fashion-mnist-128) reads low: 40 images"]
        ),
        "speculative": arm_metrics(
            strategy="Speculative(gamma=2, acceptance=Coupled())",
            kind="speculative",
            arm=speculative("sdvar.Coupled"),
            token_agreement_with_baseline=1.0,
            frechet_distance_to_baseline=-2e-7,
            kernel_inception_distance_to_baseline_mean=-2e-9,
            kernel_inception_distance_to_baseline_std=1e-9,
            identical_images=40,
            psnr_mean=None,
            ssim_mean=1.0,
            mean_absolute_difference=0.0,
            target_calls_mean=4.512,
            target_tokens_mean=318.0,
            speed_relative_to_baseline=0.874,
            images_per_second=62.1,
            seconds_per_batch_median=1.03,
            agreement_per_scale=[0.97, 0.83, 0.72, 0.66, 0.61, None],
            accepted_scales_per_scale=[0.97, 0.56, 0.12, 0.01, 0.0, None],
            drafted_rounds=[[40, 39, 0, 0, 0, 0], [0, 1, 18, 22, 0, 0], [0, 0, 1, 17, 38, 0]],
            accepted_rounds=[[39, 22, 0, 0, 0, 0], [0, 0, 2, 1, 0, 0], [0, 0, 0, 0, 0, 0]],
            target_calls_images=[0, 0, 0, 2, 18, 20],
            **drafted,
        ),
        "lossy": arm_metrics(
            strategy="Speculative(gamma=2, acceptance=Match(tau=0.5, keep='draft'))",
            kind="speculative",
            arm=speculative("sdvar.Match", tau=0.5, keep="draft"),
            lossless=False,
            exact=False,
            token_agreement_with_baseline=0.482,
            frechet_distance_to_baseline=0.261,
            kernel_inception_distance_to_baseline_mean=0.00321,
            kernel_inception_distance_to_baseline_std=0.00042,
            precision=0.8125,
            recall=0.64,
            precision_recall_against="reference",
            identical_images=1,
            psnr_mean=21.347,
            ssim_mean=0.81324,
            mean_absolute_difference=0.04487,
            inception_score_mean=8.37,
            target_calls_mean=2.644,
            target_tokens_mean=171.0,
            speed_relative_to_baseline=1.31,
            images_per_second=93.0,
            agreement_per_scale=[0.97, 0.80, 0.70, 0.63, 0.57, None],
            accepted_scales_per_scale=[0.97, 0.94, 0.91, 0.88, 0.74, None],
            drafted_rounds=[[40, 39, 0, 0, 0, 0], [0, 1, 3, 37, 32, 0]],
            accepted_rounds=[[39, 37, 0, 0, 0, 0], [0, 1, 3, 33, 24, 0]],
            target_calls_images=[0, 0, 26, 14],
            images_differing_from_baseline=39,
            **drafted,
        ),
        "handoff": arm_metrics(
            strategy="Handoff(entry=3, first='draft', prefix='block_causal')",
            kind="handoff",
            arm={"class_path": "sdvar.Handoff", "init_args": {"entry": 3}},
            lossless=False,
            exact=False,
            token_agreement_with_baseline=0.35,
            frechet_distance_to_baseline=0.118,
            target_calls_mean=3.0,
            draft_calls_mean=3.0,
            draft_tokens_mean=14.0,
            speed_relative_to_baseline=1.12,
            images_differing_from_baseline=38,
            warnings=arm_metrics()["warnings"] + ["a warning of this arm alone"],
        ),
        "baseline_reseeded": other_seeds(arm_metrics(frechet_distance_to_baseline=0.104)),
    }


def other_seeds(arm):
    """An arm's values without those that only the baseline's seeds give."""
    of_tokens = ("images_differing_from_baseline", "near_tie_images", "largest_first_difference_gap")
    return {name: value for name, value in arm.items() if name not in of_tokens}


def write_run(out, arms, *, pictures=None, class_names=CLASS_NAMES, patch_nums=PATCH_NUMS):
    """Writes what eval/fid.py leaves behind.

    Args:
        out: the run's folder.
        arms: values by arm; an arm's images resemble the baseline's as its share of equal tokens says.
        pictures: (N, 32, 32) uint8 to show instead of drawn shapes.
        class_names: names of the classes.
        patch_nums: sides of the scales; without them the report has no plots by scale, and is written faster.
    """
    rng = np.random.default_rng(0)
    for name, arm in arms.items():
        agreement = arm.get("token_agreement_with_baseline")
        rows = []
        for index in range(arm["images"]):
            label, seed = index % len(class_names), index + (2**40 if agreement is None else 0)
            picture = draw(label, seed) if pictures is None else pictures[index % len(pictures)]
            if agreement is None or agreement < 1:
                strength = 0 if index == 2 else (1 - (agreement or 0)) * rng.uniform(0, 60)
                picture = (picture + rng.normal(0, 1, (32, 32)) * strength).clip(0, 255).astype(np.uint8)
            file = f"000/{index:06d}.png"
            (out / name / "000").mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).convert("RGB").save(out / name / file)
            equal = "" if agreement is None else int(agreement == 1 or index == 2)
            rows.append((index, label, seed, file, 6, 0, 130, 0, equal))
        with (out / name / "manifest.csv").open("w", newline="") as lines:
            header = "index,label,seed,file,target_calls,draft_calls,target_tokens,draft_tokens,tokens_equal_baseline"
            csv.writer(lines).writerows([header.split(","), *rows])
    metrics = {
        "arms": arms,
        "reference": {"images": 10000, "inception_score_mean": 8.15},
        "environment": {
            "command": "python eval/fid.py --pair tiny --images_per_class 10",
            "note": "TEST DATA: every value on this page is made up",
            "versions": {"torch": "2.15.0", "torch-fidelity": "0.4.0"},
            "hardware": {"processor": "a made-up processor", "cores": 2},
            "torch_threads": 1,
            "weights_sha256": {"target": "0123456789abcdef" * 4, "draft": "fedcba9876543210" * 4},
        },
        "config": {"pair": "tiny"},
        "wall_seconds": {"predict": 151.2, "measure": 20.9},
        "class_names": class_names,
        "batch_size": 64,
        "patch_nums": patch_nums,
    }
    (out / "metrics.json").write_text(json.dumps(metrics))
    (out / "config.yaml").write_text("pair: tiny\nimages_per_class: 10\nsampling:\n  cfg: 1.5\n  top_k: 20\n")
    return out
