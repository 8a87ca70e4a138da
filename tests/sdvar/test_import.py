"""What `import sdvar` does not do."""

import os
import subprocess
import sys

import pytest

from tests.paths import ROOT

FORK = """
import os, sys
import torch
import sdvar

torch.set_num_threads(2)
child = os.fork()
if child == 0:
    pair = sdvar.load_pair("tiny")
    sdvar.decode(pair, [1, 2], [3, 4], sdvar.Speculative(2))
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_decodes_with_two_threads():
    """A kernel run at import would start OpenMP's threads, which a fork loses: the child would wait for them."""
    process = subprocess.Popen(
        [sys.executable, "-c", FORK],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, said = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)  # parent and child
        raise
    assert process.returncode == 0, said


def test_only_what_decoding_needs_is_imported():
    unwanted = {"lightning", "jsonargparse", "datasets", "torch_fidelity", "pandas", "matplotlib", "eval"}
    code = "import sys, sdvar; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not unwanted & set(done.stdout.split())
