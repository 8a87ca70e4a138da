"""eval.report.terminal: the table shows the registry's columns, and each warning once."""

from pathlib import Path

from eval.report.terminal import print_table
from eval.report.words import DIFFERENCE
from tests.eval.finished_run import arms


def test_table_has_the_values_and_every_warning_once(capsys):
    environment = {"device": "cpu", "threads": 1}
    difference = {DIFFERENCE: -0.1, f"{DIFFERENCE}_interval": [-0.3, 0.1]}
    made_up = arms()
    made_up["lossy"] |= difference
    metrics = {"arms": made_up, "environment": environment, "batch_size": 64}
    print_table(metrics, Path("runs/fid/report.html"))
    text = capsys.readouterr().out
    lossy = next(line for line in text.splitlines() if "lossy" in line)
    cells = [cell.strip() for cell in lossy.strip("│").split("│")]
    assert cells[:2] == ["lossy", "2.64"] and {"0.4820", "0.261", "21.35", "8.37", "1.31"} <= set(cells)
    assert "-0.000" not in text and "40 images per arm" in text
    assert text.count("Inception Score (fashion-mnist-128) reads low") == 1
    interval = "95 % interval \N{MINUS SIGN}0.300 … +0.100"
    said = f"distance to the reference, against the baseline's: lossy no difference seen ({interval})"
    assert text.count("against the baseline's:") == 1 and said in text
    claim, report = text.splitlines()[-2:]
    assert report == "report: runs/fid/report.html" and claim.startswith("claim: runs/fid/claim.json (eval/verify.py")


def test_the_caption_speaks_of_what_the_table_has(capsys):
    features = ("distance", "inception")
    bare = {name: {key: value for key, value in arm.items() if not any(part in key for part in features)}
            for name, arm in arms().items()}  # fmt: skip
    for name, expected in (("bare", False), ("full", True)):
        metrics = {"arms": bare if name == "bare" else arms(), "environment": {"device": "cpu", "threads": 1}}
        print_table(metrics | {"batch_size": 64}, Path("report.html"))
        text = " ".join(capsys.readouterr().out.split())
        assert ("Distances and Inception Score by" in text) is expected
        assert ("at the noise floor" in text) is expected
