"""What `import sdvar` does not do."""

import configparser
import os
import re
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
@pytest.mark.proof
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


ALONE = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name.partition(".")[0])

sys.meta_path.insert(0, Absent())
{code}
"""
USE = """
import sdvar
pair = sdvar.load_pair("tiny")
result = sdvar.decode(pair, [1], [2], sdvar.Speculative(2))
print("torch's compiler is imported:", "torch._dynamo" in sys.modules)  # seconds, for nothing
sdvar.save_images(result, sys.argv[1])
for use in (lambda: sdvar.draft_of(pair.target, "target:int8"), lambda: sdvar.load_var("hf://a/b/c.pth")):
    try:
        use()
    except ValueError as error:
        print(error)
"""


def without_extras(code, *arguments):
    """Runs code where only the requirements of `sdvar` alone are there."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extra = {re.match(r"[\w-]+", line)[0] for line in setup["options.extras_require"]["eval"].split()}
    names = {"pillow": "PIL", "torch-fidelity": "torch_fidelity"}
    absent = {names.get(name, name) for name in extra} - {"filelock", "jinja2"}  # which torch itself requires
    command = [sys.executable, "-c", ALONE.format(names=absent, code=code), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_decoding_needs_torch_numpy_and_safetensors_alone(tmp_path):
    done = without_extras(USE, tmp_path / "pictures")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "pictures" / "000000.png").is_file()
    assert "torch's compiler is imported: False" in done.stdout
    for name in ("torchao", "huggingface_hub"):
        assert f"needs the package {name}, which comes with the commands: pip install 'sdvar[eval]'" in done.stdout


SCRIPT = "import runpy; sys.argv = ['{file}']; runpy.run_path('{file}', run_name='__main__')"


@pytest.mark.parametrize("command", ["selftest", "fid", "inspect", "eval/fid.py", "eval/tokens.py", "eval/plan.py"])
@pytest.mark.one_in(3)
def test_a_command_says_which_package_it_needs(command):
    by_name = f"from eval.cli.main import main; sys.exit(main(['{command}']))"
    done = without_extras(SCRIPT.format(file=command) if command.endswith(".py") else by_name)
    assert done.returncode and "pip install 'sdvar[eval]'" in done.stderr and "Traceback" not in done.stderr


def test_a_working_directory_that_was_removed_is_one_line(tmp_path):
    """torch's libraries would abort the process in words of their own."""
    gone = tmp_path / "gone"
    gone.mkdir()
    program = "import os, sys; os.rmdir(os.getcwd()); sys.path.insert(0, sys.argv[1]); import sdvar"
    result = subprocess.run([sys.executable, "-c", program, str(ROOT)], cwd=gone, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (
        1,
        "error: the working directory was removed; change to another one\n",
    )
