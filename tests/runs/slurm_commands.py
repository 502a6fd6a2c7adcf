"""A stand-in for Slurm: ``slurm_commands.py sbatch|srun|sacct|scancel ...``; jobs are processes of this machine.

A file a job in the folder ``SLURM_STAND_IN``: the process that leads it, its one task, and a state that ended it.
"""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil


def job_file(name: str) -> Path:
    return Path(os.environ["SLURM_STAND_IN"]) / name


def sbatch(script: str) -> None:
    if job_file("down").exists():
        sys.exit("sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)")
    if "--partition=nowhere" in Path(script).read_text():
        sys.exit("sbatch: error: invalid partition specified: nowhere")
    number = 1 + len(list(job_file("").glob("*.leader")))
    environment = {
        "SLURM_JOB_ID": str(number),
        "SLURM_NTASKS": "1",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_NODEID": "0",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
    }
    leader = subprocess.Popen(
        ["bash", script],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    job_file(f"{number}.leader").write_text(str(leader.pid))
    print(f"Submitted batch job {number}")


def srun(*arguments: str) -> None:
    number = os.environ["SLURM_JOB_ID"]
    words = [word.replace("%j", number).replace("%t", "0") for word in arguments]
    files = {words.index(option): words[words.index(option) + 1] for option in ("--output", "--error")}
    command = words[max(files) + 2 :]
    for stream, file in zip((1, 2), files.values(), strict=True):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    job_file(f"{number}.task").write_text(str(os.getpid()))
    os.execvp(command[0], command)


def sacct(*arguments: str) -> None:
    print("JobID|State|NodeList")
    for option, number in itertools.pairwise(arguments):
        if option == "-j" and job_file(f"{number}.leader").exists():
            print(f"{number}|{_state(number)}|here")


def scancel(*arguments: str) -> None:
    number, by_force = arguments[-1], "--signal=KILL" in arguments
    if _state(number) != "RUNNING":
        return
    end(number, "CANCELLED by 1000", by_force=by_force)


def end(number: str, state: str, *, by_force: bool) -> None:
    job_file(f"{number}.state").write_text(state)
    if by_force:
        leader = psutil.Process(int(job_file(f"{number}.leader").read_text()))
        for process in [*leader.children(recursive=True), leader]:
            process.kill()
        return
    while not job_file(f"{number}.task").exists():
        time.sleep(0.01)
    os.kill(int(job_file(f"{number}.task").read_text()), signal.SIGTERM)


def _state(number: str) -> str:
    try:
        if psutil.Process(int(job_file(f"{number}.leader").read_text())).status() != psutil.STATUS_ZOMBIE:
            return "RUNNING"
    except psutil.NoSuchProcess:
        pass
    ended_by = job_file(f"{number}.state")
    return ended_by.read_text() if ended_by.exists() else "COMPLETED"


if __name__ == "__main__":
    {"sbatch": sbatch, "srun": srun, "sacct": sacct, "scancel": scancel}[sys.argv[1]](*sys.argv[2:])
