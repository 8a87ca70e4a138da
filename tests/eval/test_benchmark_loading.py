"""Loading takes the memory of the loaded model once, and no second copy of the file's numbers."""

import re
import sys

import pytest

from eval import benchmark_loading

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads anonymous memory from /proc")

OPTIONS = [
    ["--form", "pth"],
    pytest.param(["--form", "safetensors", "--dtype", "float32"], marks=pytest.mark.proof),
    pytest.param(["--form", "safetensors"], marks=pytest.mark.proof),
]


@pytest.mark.parametrize("options", OPTIONS)
def test_peak_memory_of_loading(tmp_path, capsys, options):
    # with the file's numbers in memory as well it would be 2.8, for float32 2; with tensors left mapped 0
    assert benchmark_loading.main(["--depth", "8", "--folder", str(tmp_path), *options]) == 0
    printed = capsys.readouterr().out
    assert "41,315,904 parameters" in printed
    assert 0.5 < float(re.search(r"ratio +(\S+)", printed)[1]) < benchmark_loading.LIMIT
    assert not list(tmp_path.iterdir())
