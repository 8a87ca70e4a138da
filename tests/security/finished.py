"""A finished run written by hand: 4 images per arm, no model."""

import json

import torch
import yaml

from lightning_modules.columns import BATCH_COLUMNS, PART_SECONDS, PER_IMAGE, PER_ROUND, PER_SCALE
from lightning_modules.data.image_list import RESEED_OFFSET, shuffled
from lightning_modules.run.contents import MARKER
from lightning_modules.run.folder import RunFolder
from lightning_modules.run.formats.png import write_png
from lightning_modules.run.formats.rows import image_file

IMAGES = 4


def write_run(out, **arms):
    """A run of 4 images by arm; further arms are given by their entry in settings.yaml."""
    described = {"kind": "target", "text": "Baseline()", "lossless": True, "exact": True}
    described |= {"class_path": "sdvar.Baseline", "init_args": {"model": "target"}, "reseed": False}
    folder = RunFolder(out)
    arms = {"baseline": described, **{name: described | arm for name, arm in arms.items()}}
    for name in arms:
        (out / name / "000").mkdir(parents=True)
        rows, (_, labels, seeds) = [], shuffled([0, 1], 0, IMAGES)
        seeds = seeds + (RESEED_OFFSET if arms[name]["reseed"] else 0)
        for index in range(IMAGES):
            pixels = torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8)
            row = {"index": index, "label": labels[index], "seed": seeds[index], "file": image_file(index)}
            row |= dict.fromkeys(PER_IMAGE, 3) | {"tokens_equal_baseline": 1, "agreeing_tokens": 14, "score_gap": ""}
            rows.append(row | {"sha256": write_png(out / name / row["file"], pixels)})
        folder.manifest(name).replace(rows)
        counts = dict.fromkeys((*PER_SCALE, *PER_ROUND), "4 4 0") | dict.fromkeys(PART_SECONDS, "0.1 0.1 0.1 0")
        row = dict.fromkeys(BATCH_COLUMNS, "") | counts | {"batch": 0, "images": IMAGES}
        folder.batches(name).replace([row | {"seconds": "1.5", "baseline_seconds": "1.5"}])
    settings = MARKER | {
        "arms": arms,
        "seed": 0,
        "pair": "tiny",
        "labels": [0, 1],
        "images_per_class": 2,
        "batch_size": 4,
        "sampling": {"cfg": 1.5, "top_k": 60},
    }
    settings |= {"precision": "32-true", "patch_nums": [1, 2, 3], "num_classes": 2, "device": "cpu"}
    settings |= {"engine": {"threads": 1}}
    (out / "settings.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    environment = {"command": "python eval/fid.py", "device": "cpu", "threads": 1, "versions": {"torch": "2.15.0"}}
    session = {"environment": environment, "prepare": 1.5, "decode": 2.5}
    (out / "decoding.json").write_text(json.dumps({"sessions": [session]}))
    config = {"pair": "tiny", "metrics": ["is", "fid"], "reference": "none", "feature_extractor": "fashion-mnist-128"}
    (out / "config.yaml").write_text(yaml.safe_dump(config))
    return out
