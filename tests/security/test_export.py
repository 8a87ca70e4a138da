"""An export puts nothing into a run's folder, and reads a run's config as little as measuring does."""

import os

import pytest

from eval import export
from tests.security.finished import write_run


@pytest.mark.parametrize("where", ["run", "run/baseline", "run/baseline/000", "other", "link"])
def test_an_export_into_the_folder_of_a_run_is_refused(tmp_path, refused, where):
    out, _ = write_run(tmp_path / "run"), write_run(tmp_path / "other")
    (tmp_path / "link").symlink_to(out)
    error = refused(export.main, [str(tmp_path / where / "a.npz"), "--out", str(out), "--arm", "baseline"])
    run = tmp_path / where.replace("link", "run").partition("/")[0]
    assert f"lies in the run {run}, which --overwrite would then refuse" in error and f"such as {run}_a.npz" in error
    assert not list(tmp_path.rglob("*.npz"))
    export.main([f"{run}_a.npz", "--out", str(out), "--arm", "baseline"])
    assert os.path.getsize(f"{run}_a.npz")


@pytest.mark.parametrize(
    ("text", "message"),
    [("[1]", "expected a mapping"), ("feature_extractor: {a: 1}", "expected text"), ("a: [", "cannot be read")],
)
def test_an_invalid_config_is_one_line(tmp_path, refused, text, message):
    out = write_run(tmp_path / "run")
    (out / "config.yaml").write_text(text)
    line = [str(tmp_path / "a.npz"), "--out", str(out), "--arm", "baseline", "--statistics"]
    assert message in refused(export.main, line)
