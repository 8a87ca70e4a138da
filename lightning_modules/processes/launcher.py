"""Who started this process, and how many others: torchrun, SLURM's srun, or nobody but Lightning."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning.fabric.plugins import ClusterEnvironment

NUMBERS = (
    *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "RANK", "LOCAL_RANK", "NODE_RANK", "MASTER_PORT"),
    *("SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NUM_NODES", "SLURM_PROCID", "SLURM_LOCALID"),
)  # environment variables
PATIENCE = 5.0  # seconds; launchers end the others well within it once one process has failed


def check_launcher(devices: int, num_nodes: int) -> None:
    """Refuses numbers of devices and nodes that differ from the processes that a launcher has started.

    The processes would wait for others that never start, or each would act as the first of the run.

    Raises:
        ValueError: with both numbers and what to do.
    """
    _check_numbers()
    asked = f"--devices {devices} --num_nodes {num_nodes}"
    if _by_torchrun():
        per_node, nodes = (int(os.environ[name]) for name in ("LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE"))
        if (per_node, nodes) != (devices, num_nodes):
            raise ValueError(
                f"devices: torchrun started {per_node} processes on each of {nodes} nodes, but {asked} are asked for; "
                f"give --devices {per_node} --num_nodes {nodes}, or torchrun --nproc_per_node {devices} "
                f"--nnodes {num_nodes}"
            )
    elif _srun_tasks() > 1:
        _check_srun(devices, num_nodes, asked)
    elif _srun_tasks() == 0 and int(os.environ.get("SLURM_NTASKS", 1)) > 1 and num_nodes > 1:
        raise ValueError(f"num_nodes: {asked} are asked for outside of srun; write `srun python …`")
    elif (started := os.environ.get("WORLD_SIZE")) and int(started) != devices * num_nodes:
        raise ValueError(
            f"devices: the launcher started {started} processes (WORLD_SIZE), but {asked} are asked for; make them "
            "equal"
        )
    elif num_nodes > 1 and not {"MASTER_ADDR", "NODE_RANK"} <= set(os.environ):
        raise ValueError(
            f"num_nodes: {num_nodes} nodes need a launcher on each: torchrun, srun, or this command with MASTER_ADDR, "
            "MASTER_PORT and NODE_RANK set; see docs/cluster.md"
        )


def _check_numbers() -> None:
    """Refuses words where launchers leave numbers."""
    for name in NUMBERS:
        value = os.environ.get(name)
        if value and not (value.isascii() and value.isdecimal()):
            raise ValueError(f"environment: expected a number in {name}, which launchers set, got {value!r}; unset it")


def cluster_environment() -> ClusterEnvironment | None:
    """Where Lightning takes its ranks from; None where it finds them itself.

    Inside a SLURM job Lightning counts every process as one of the job's tasks, even one that was started without srun;
    in an interactive job it counts none.
    """
    from lightning.fabric.plugins.environments import LightningEnvironment, SLURMEnvironment

    if _by_torchrun() or "SLURM_JOB_ID" not in os.environ:
        return None
    return SLURMEnvironment(auto_requeue=False) if _srun_tasks() > 1 else LightningEnvironment()


def let_the_first_speak() -> None:
    """Waits, in all processes of a launcher but the first, before an error is printed.

    All of them find the same mistake; the launcher ends the others once the first has reported it. A mistake that only
    another process finds is reported a little later.
    """
    rank = os.environ.get("RANK" if _by_torchrun() else "SLURM_PROCID", "0")
    if rank != "0" and (_by_torchrun() or _srun_tasks() > 1):
        time.sleep(PATIENCE)


def is_alone() -> bool:
    """Whether no launcher has started this process beside others."""
    launched = _by_torchrun() or _srun_tasks() > 1 or "LOCAL_RANK" in os.environ
    return not launched and os.environ.get("WORLD_SIZE") in (None, "", "1")


def is_first() -> bool:
    """Whether this process is the first of a run, as far as the environment tells."""
    names = ("RANK",) if _by_torchrun() else ("SLURM_PROCID",) if _srun_tasks() > 1 else ("NODE_RANK", "LOCAL_RANK")
    return all(os.environ.get(name, "0") == "0" for name in names)


def _by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def _srun_tasks() -> int:
    """Tasks of the srun that started this process; 0 if none did. SLURM_NTASKS is there in a batch script too."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", 0))


def _check_srun(devices: int, num_nodes: int, asked: str) -> None:
    nodes = int(os.environ.get("SLURM_STEP_NUM_NODES", 1))
    counts = os.environ.get("SLURM_STEP_TASKS_PER_NODE", "")  # such as 8(x4), or 2,1
    even = re.fullmatch(r"(\d+)(\(x\d+\))?", counts)
    option = os.environ.get("SLURM_NTASKS_PER_NODE")  # which Lightning requires
    if not (even and int(even[1]) == devices and nodes == num_nodes and option == str(devices)):
        given = f"--ntasks-per-node={option}" if option else "no --ntasks-per-node"
        raise ValueError(
            f"devices: srun started {counts} tasks on {nodes} nodes ({given}), but {asked} are asked for; give srun "
            f"--nodes={num_nodes} --ntasks-per-node={devices}, or matching --devices and --num_nodes"
        )


@contextmanager
def an_ended_process_says() -> Iterator[None]:
    """Turns an error that says that another process of the run has ended into a ValueError; others pass."""
    import torch.distributed

    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, torch.distributed.DistError) or "gloo" in str(error)):
            raise
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"another process of the run has ended; the same command again continues ({reason})"
        ) from error


def leave_process_group() -> None:
    """Ends the process group: the first process measures and the others do not wait for it."""
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
