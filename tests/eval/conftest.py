"""Fixtures shared by the tests of the evaluation."""

import shutil

import pytest

from tests.eval.finished_run import arms, write_run
from tests.paths import ROOT
from tests.unplotted import unplotted

__all__ = ["unplotted"]
REFERENCE = ROOT / "eval" / "bundled" / "fashion_mnist_test.parquet"
OPTIONS = """
    --sampling.top_k 0 --sampling.top_p 0 --images_per_class 2 --repeats 2 --batch_size 6 --threads 1 --accelerator cpu
    --metrics is,fid,kid,prc,classes,dup,pairs,cosine,nll --feature_extractor fashion-mnist-128 --noise_floor
    --strategy Speculative --strategy.gamma 2 --strategy.acceptance Coupled
    --strategy lossy=Speculative --strategy.gamma 2 --strategy.acceptance Match
    --strategy.acceptance.tau 0.5 --strategy.acceptance.keep draft
"""


@pytest.fixture
def run_folder(tmp_path):
    """A finished run of the five default arms, made up."""
    return write_run(tmp_path / "run", arms())


@pytest.fixture(scope="session")
def reported(tmp_path_factory):
    """Such a run with its report, to look at, not to change."""
    from eval.report.page import write_report

    out = write_run(tmp_path_factory.mktemp("reported") / "run", arms())
    write_report(out)
    return out


@pytest.fixture(scope="session")
def small_reference(tmp_path_factory):
    """300 of the bundled test images, as a Parquet file."""
    from pyarrow import parquet

    file = tmp_path_factory.mktemp("reference") / "small.parquet"
    parquet.write_table(parquet.read_table(REFERENCE).slice(0, 300), file)
    return file


@pytest.fixture(scope="session")
def decoded(pair_line, small_reference, tmp_path_factory):
    """A real run of eval/fid.py on the pair of random weights: 20 images of 4 arms in 2 repeats, every metric."""
    from eval import fid

    out = tmp_path_factory.mktemp("decoded") / "run"
    line = [*pair_line, *OPTIONS.split()]
    fid.main([*line, "--reference", str(small_reference), "--out", str(out)])
    return out


@pytest.fixture(scope="session")
def quick_job(pair_line) -> list[str]:
    """The options of a run of the pair of random weights: 20 images of each arm, without the folder."""
    line = [
        *pair_line,
        "--sampling.top_k",
        "0",
        "--sampling.top_p",
        "0",
        "--images_per_class",
        "4",
        "--batch_size",
        "6",
    ]
    line += ["--threads", "1", "--accelerator", "cpu", "--feature_extractor", "fashion-mnist-128"]
    return [*line, "--reference", str(REFERENCE)]


@pytest.fixture
def copied_run(decoded, tmp_path):
    """A copy of that run, to change."""
    return shutil.copytree(decoded, tmp_path / "run")
