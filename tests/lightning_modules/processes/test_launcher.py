"""What launchers started must be what the command is asked for; the same images come out under each of them."""

import os

import pytest

from eval import fid
from lightning_modules.processes import launcher

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "RANK": "0",
    "WORLD_SIZE": "4",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_WORLD_SIZE": "2",
}
# as SLURM 22.05 sets them, with --nodes=2 --ntasks-per-node=2: in the batch script, and in a task of srun
BATCH = {
    "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "job.sh", "SLURM_NNODES": "2", "SLURM_NTASKS": "4",
    "SLURM_NTASKS_PER_NODE": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0",
}  # fmt: skip
SRUN = {**BATCH, "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_TASKS_PER_NODE": "2(x2)"}
ONE_TASK = {**SRUN, "SLURM_NTASKS": "1", "SLURM_NNODES": "1", "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NUM_NODES": "1"}
INTERACTIVE = {**SRUN, "SLURM_JOB_NAME": "interactive"}  # salloc, then srun
BY_HAND = {"MASTER_ADDR": "node0", "MASTER_PORT": "29500", "NODE_RANK": "1"}


@pytest.fixture
def environment(monkeypatch):
    """Sets the variables of a launcher and no others of any."""
    for name in list(os.environ):
        if name.startswith(("SLURM_", "TORCHELASTIC_")) or name in {*TORCHRUN, *BY_HAND, "LOCAL_RANK"}:
            monkeypatch.delenv(name)

    def set_variables(variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_variables


@pytest.mark.parametrize(
    ("variables", "devices", "nodes"),
    [
        ({}, 1, 1),
        ({}, 2, 1),
        (TORCHRUN, 2, 2),
        (SRUN, 2, 2),
        (INTERACTIVE, 2, 2),
        (BATCH, 1, 1),  # measuring, after srun, in the same script
        (ONE_TASK, 2, 1),
        (SRUN | TORCHRUN, 2, 2),  # srun starts torchrun
        (BY_HAND, 2, 2),
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "1"}, 2, 1),  # a process that Lightning started
    ],
)
def test_what_the_launcher_started_is_accepted(variables, devices, nodes, environment):
    environment(variables)
    launcher.check_launcher(devices, nodes)


@pytest.mark.parametrize(
    ("variables", "devices", "nodes", "error"),
    [
        (TORCHRUN, 1, 1, "torchrun started 2 processes on each of 2 nodes, but --devices 1 --num_nodes 1"),
        (TORCHRUN, 4, 1, "give --devices 2 --num_nodes 2, or torchrun --nproc_per_node 4 --nnodes 1"),
        (SRUN, 1, 1, "srun started 2(x2) tasks on 2 nodes (--ntasks-per-node=2), but --devices 1 --num_nodes 1"),
        (SRUN, 4, 1, "give srun --nodes=1 --ntasks-per-node=4"),
        (INTERACTIVE, 1, 1, "srun started 2(x2) tasks"),
        ({**SRUN, "SLURM_STEP_TASKS_PER_NODE": "3,1"}, 2, 2, "srun started 3,1 tasks on 2 nodes"),
        ({k: v for k, v in SRUN.items() if k != "SLURM_NTASKS_PER_NODE"}, 2, 2, "(no --ntasks-per-node)"),
        (BATCH, 2, 2, "outside of srun; write `srun python …`"),
        ({"WORLD_SIZE": "2"}, 1, 1, "the launcher started 2 processes (WORLD_SIZE)"),
        ({}, 1, 2, "num_nodes: 2 nodes need a launcher on each"),
        ({"WORLD_SIZE": "many"}, 1, 1, "expected a number in WORLD_SIZE, which launchers set, got 'many'"),
        ({"LOCAL_RANK": "-1"}, 1, 1, "expected a number in LOCAL_RANK, which launchers set, got '-1'"),
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "4.0"}, 2, 2, "expected a number in SLURM_STEP_NUM_TASKS"),
    ],
)
def test_another_number_is_refused_before_any_work(variables, devices, nodes, error, environment, tmp_path, refused):
    environment(variables)
    message = refused(fid.main, ["--devices", str(devices), "--num_nodes", str(nodes), "--out", str(tmp_path / "run")])
    assert error in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "NoneType"),
        (TORCHRUN, "NoneType"),
        (SRUN, "SLURMEnvironment"),
        (INTERACTIVE, "SLURMEnvironment"),
        (BATCH, "LightningEnvironment"),
        (ONE_TASK, "LightningEnvironment"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*srun.*")
def test_ranks_come_from_slurm_where_srun_started_several_tasks(variables, expected, environment):
    environment(variables)
    assert type(launcher.cluster_environment()).__name__ == expected


def test_of_many_processes_with_one_mistake_the_first_speaks_first(environment, monkeypatch):
    waited = []
    monkeypatch.setattr("time.sleep", waited.append)
    for variables in ({}, TORCHRUN, SRUN, BATCH, {**BATCH, "SLURM_PROCID": "1"}):
        environment(variables)
        launcher.let_the_first_speak()
    assert not waited
    environment({**TORCHRUN, "RANK": "3"})
    launcher.let_the_first_speak()
    assert waited == [launcher.PATIENCE]
