"""depthlens in a real Slurm on this machine, by the templates in configs/cluster.

The daemons run in a temporary folder with keys, sockets and ports of their own, as the user who starts the test, and
are ended with all they have started. A Slurm that the machine has is not touched.
"""
import getpass
import os
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cluster

PROGRAM = sys.argv[1]
TEMPLATES = cluster.SOURCE / "configs" / "cluster"
PLACES = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/sbin"
# Generous: the machine may be busy with other tests.
SECONDS = 120


def arguments():
    inputs = [flag for path in sorted(cluster.CORPORA.iterdir()) for flag in ("--input", path)]
    return [str(part) for part in (*inputs, "--lens", "logit", "--lens", f"tuned:{cluster.DEMO_LENS}", "--threads", 1)]


class Slurm:
    """munged, slurmctld and slurmd of a test's own."""

    programs = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "squeue", "sinfo")

    def __init__(self, folder):
        self.folder = folder
        self.conf = folder / "slurm.conf"
        self.environment = cluster.clean_environment(SLURM_CONF=str(self.conf), PATH=PLACES)
        self.daemons = []

    @classmethod
    def missing(cls):
        return [name for name in cls.programs if shutil.which(name, path=PLACES) is None]

    def start(self):
        """Empty where a job can be submitted, else why not."""
        for name in ("state", "spool", "munge"):
            (self.folder / name).mkdir(mode=0o700)
        key = self.folder / "munge" / "key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        host, user = socket.gethostname().split(".")[0], getpass.getuser()
        ports = [cluster.free_port(), cluster.free_port()]
        # As many processors as the test has processes at a time, whatever the machine has.
        self.conf.write_text(f"""\
ClusterName=depthlens-test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={self.folder}/munge/socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0,bf_interval=1
StateSaveLocation={self.folder}/state
SlurmdSpoolDir={self.folder}/spool
SlurmctldPidFile={self.folder}/slurmctld.pid
SlurmdPidFile={self.folder}/slurmd.pid
MpiDefault=none
ReturnToService=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=8000
PartitionName=all Nodes={host} Default=YES MaxTime=10
""")
        munge = self.folder / "munge"
        self.daemon("munged", "--foreground", "--force", "--key-file", key, "--socket", munge / "socket", "--pid-file",
                    munge / "pid", "--log-file", munge / "log", "--seed-file", munge / "seed")
        if not cluster.wait_until((munge / "socket").exists, 30):
            return "munged does not start:\n" + self.logs()
        self.daemon("slurmctld", "-D", "-f", self.conf)
        self.daemon("slurmd", "-D", "-f", self.conf)
        idle = lambda: "idle" in self.run("sinfo", "--noheader", "--format", "%t", check=False)
        return "" if cluster.wait_until(idle, SECONDS, pause=0.2) else "no node becomes idle:\n" + self.logs()

    def daemon(self, name, *flags):
        command = [shutil.which(name, path=PLACES), *flags]
        self.daemons.append(cluster.Process(command, self.environment, self.folder / f"{name}.log"))

    def logs(self):
        return "\n".join(f"--- {daemon.command[0]}\n{daemon.log_text()[-3000:]}" for daemon in self.daemons)

    def stop(self):
        self.run("scancel", "--user", getpass.getuser(), check=False)
        cluster.wait_until(lambda: not self.run("squeue", "--noheader", "--states", "running,completing", check=False), 5)
        for daemon in reversed(self.daemons):
            cluster.kill(daemon.pid, signal.SIGTERM)
            try:
                daemon.popen.wait(5)
            except subprocess.TimeoutExpired:
                pass
            daemon.__exit__()
        # Step daemons leave the daemon that has started them; what they run has our slurm.conf in its environment.
        for pid in processes_with(f"SLURM_CONF={self.conf}"):
            cluster.kill(pid, signal.SIGKILL)

    def run(self, *command, check=True, environment=None):
        done = subprocess.run([str(part) for part in command], env={**self.environment, **(environment or {})},
                              cwd=self.folder, capture_output=True, text=True, timeout=SECONDS)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout.strip()

    def submit(self, *command, environment=None):
        # Little of what a template asks for fits into a test.
        small = ("--cpus-per-task=1", "--mem=0", "--time=5")
        return self.run("sbatch", "--parsable", *small, *command, environment=environment)

    def state(self, job):
        return self.run("squeue", "--noheader", "--jobs", job, "--format", "%T", check=False)

    def start_now(self, job):
        """A job that is put in the queue again begins two minutes later otherwise."""
        self.run("scontrol", "update", f"JobId={job}", "StartTime=now")

    def report(self, job):
        return self.run("scontrol", "show", "job", job, check=False)


def processes_with(variable):
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.fsencode(variable) in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


class SlurmTest(cluster.Case):
    @classmethod
    def setUpClass(cls):
        folder = Path(tempfile.mkdtemp(prefix="depthlens-slurm-"))
        cls.addClassCleanup(cluster.remove, folder)
        cls.slurm = Slurm(folder)
        cls.addClassCleanup(cls.slurm.stop)
        why = cls.slurm.start()
        if why:
            raise AssertionError(why)
        cls.reference = cluster.Reference(PROGRAM)
        cls.addClassCleanup(cls.reference.remove)
        cls.whole = cls.reference.run(["analyze", *arguments()])

    def setUp(self):
        super().setUp()
        self.out = self.folder / "out"
        self.variables = {"DEPTHLENS": PROGRAM, "DEPTHLENS_OUT": str(self.out),
                          "DEPTHLENS_ARGUMENTS": " ".join(arguments())}

    def submit(self, template, *flags, log="%A_%a"):
        return self.slurm.submit(f"--output={self.folder}/{log}.log", *flags, TEMPLATES / template,
                                 environment=self.variables)

    def log(self, name=None):
        if name:
            path = self.folder / f"{name}.log"
            return path.read_text(errors="replace") if path.exists() else ""
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')}" for path in self.folder.glob("*.log"))

    def wait_for(self, job):
        gone = lambda: not self.slurm.state(job)
        finished = lambda: gone() or not re.search("PENDING|RUNNING|COMPLETING|CONFIGURING", self.slurm.state(job))
        self.assertTrue(cluster.wait_until(finished, SECONDS, pause=0.2), self.slurm.report(job) + self.log())

    def check_merged(self, job):
        self.wait_for(job)
        self.assertTrue((self.out / "whole" / "run.json").exists(), self.slurm.report(job) + self.log())
        self.assert_same_run(self.whole, self.out / "whole")
        self.assert_nothing_left(self.out / "whole")

    def merge_after(self, array):
        return self.submit("slurm-merge.sh", f"--dependency=afterok:{array}", "--kill-on-invalid-dep=yes", log="merge")

    def test_an_array_and_the_merge_that_waits_for_it(self):
        array = self.submit("slurm-array.sh", "--array=0-3")
        self.check_merged(self.merge_after(array))
        self.assertEqual(sorted(path.name for path in self.out.glob("shard-*")), [f"shard-{i}" for i in range(4)])

    def test_tasks_that_are_stopped_go_on(self):
        array = self.submit("slurm-array.sh", "--array=0-1")
        merge = self.merge_after(array)
        tasks = [f"{array}_0", f"{array}_1"]
        begun = lambda: all((self.out / f"shard-{i}").exists() for i in (0, 1))
        self.assertTrue(cluster.wait_until(begun, SECONDS), self.log())
        time.sleep(random.uniform(0.1, 0.8))
        # As preemption does it: the job is put in the queue again from outside.
        self.slurm.run("scontrol", "requeue", tasks[0])
        # As the time limit's warning does it: the program is told, and the template puts the job in the queue.
        self.slurm.run("scancel", "--signal=TERM", tasks[1], check=False)
        for task in tasks:
            queued = lambda: self.slurm.state(task) == "PENDING"
            self.assertTrue(cluster.wait_until(queued, SECONDS, pause=0.1), self.slurm.report(task) + self.log())
        # A start within the second in which the job ended fails: "Job credential revoked".
        time.sleep(2)
        for task in tasks:
            self.slurm.start_now(task)
        self.check_merged(merge)

    def test_the_tasks_of_a_step(self):
        script = 'exec "$DEPTHLENS" analyze $DEPTHLENS_ARGUMENTS --shard auto --out "$DEPTHLENS_OUT/shard-$SLURM_PROCID"'
        self.out.mkdir()
        self.slurm.run("srun", "--ntasks=2", "--time=5", "bash", "-c", script, environment=self.variables)
        # Given in any order.
        self.slurm.run(PROGRAM, "merge", self.out / "shard-1", self.out / "shard-0", "--out", self.out / "whole")
        self.assert_same_run(self.whole, self.out / "whole")

    def test_a_job_with_tasks_that_nobody_starts(self):
        script = self.folder / "script.sh"
        script.write_text('#!/bin/bash\n"$DEPTHLENS" analyze $DEPTHLENS_ARGUMENTS --shard auto --out "$DEPTHLENS_OUT"\n'
                          'echo "status $?"\n')
        self.slurm.submit("--wait", "--ntasks=2", f"--output={self.folder}/alone.log", script,
                          environment=self.variables)
        self.assertIn("status 2", self.log("alone"))
        self.assertIn("srun", self.log("alone"))

    def test_torchrun_in_a_job(self):
        torchrun = cluster.usable_torchrun()
        if torchrun is None:
            self.skipTest("no torchrun that works; tests/cluster/setup.sh installs what it needs")
        self.variables.update(TORCHRUN=torchrun, DEPTHLENS_RANKS="2")
        job = self.submit("torchrun-slurm.sh", "--nodes=1", log="first")
        self.assertTrue(cluster.wait_until(self.out.exists, SECONDS), self.log())
        time.sleep(random.uniform(0.1, 0.8))
        # Slurm tells all processes of a step: torchrun, which tells its ranks, and the ranks. They hear it twice.
        self.slurm.run("scancel", "--signal=TERM", job, check=False)
        self.wait_for(job)
        job = self.submit("torchrun-slurm.sh", "--nodes=1", log="second")
        self.wait_for(job)
        self.assertTrue((self.out / "run.json").exists(), self.log())
        self.assert_same_run(self.whole, self.out)


if __name__ == "__main__":
    if Slurm.missing():
        cluster.skip(f"no {', '.join(Slurm.missing())}; tests/cluster/setup.sh installs Slurm and munge")
    cluster.main()
