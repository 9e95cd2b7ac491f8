"""A SLURM cluster of two nodes on this machine, for as long as a test needs it: a controller and two slurmd, no systemd."""

import contextlib
import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import time

PROGRAMS = ("setpriv", "munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "srun")

CONFIG = """
ClusterName=test
SlurmctldHost={host}
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
ReturnToService=2
JobRequeue=1
KillWait=3
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd_%n.pid
SlurmdLogFile={folder}/slurmd_%n.log
SlurmdSpoolDir={folder}/spool_%n
StateSaveLocation={folder}/state
NodeName={host} NodeHostname={host} Port={ports[1]} CPUs=2 State=UNKNOWN
NodeName={host}x NodeHostname={host} Port={ports[2]} CPUs=2 State=UNKNOWN
PartitionName=all Nodes={host},{host}x Default=YES MaxTime=INFINITE State=UP
"""


def free_ports(n):
  """Ports that nobody listens at."""
  with contextlib.ExitStack() as stack:
    found = [stack.enter_context(socket.socket()) for _ in range(n)]
    for each in found:
      each.bind(("", 0))
    return [each.getsockname()[1] for each in found]


@contextlib.contextmanager
def cluster(folder):
  """Starts the cluster with its files in a folder; yields the environment that its commands need, and ends all of it."""
  missing = [program for program in PROGRAMS if not shutil.which(program, path=path())]
  assert not missing, f"{', '.join(missing)}: not installed; make engines installs what these tests need (slurm-wlm, munge)"
  folder = pathlib.Path(folder)
  (folder / "state").mkdir()
  key = folder / "munge.key"
  key.write_bytes(secrets.token_bytes(128))
  key.chmod(0o400)
  host = socket.gethostname().split(".")[0]
  config = folder / "slurm.conf"
  config.write_text(CONFIG.format(folder=folder, host=host, ports=free_ports(3), user=os.environ.get("USER", "root")))
  environment = {**os.environ, "SLURM_CONF": str(config), "PATH": path()}
  munge = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", f"--key-file={key}"]
  munge += [f"--{name}-file={folder}/munged.{name}" for name in ("pid", "log", "seed")]
  lines = [munge, ["slurmctld", "-D"], ["slurmd", "-D", "-N", host], ["slurmd", "-D", "-N", f"{host}x"]]
  daemons = []
  try:
    for line in lines:
      with (folder / "daemons.log").open("a") as log:
        # they end with these tests, even where nobody gets to end them; no preexec_fn: a fork of this process would warn of
        # jax's threads
        line = ["setpriv", "--pdeathsig", "KILL", *line]
        daemons.append(subprocess.Popen(line, env=environment, stdout=log, stderr=log, start_new_session=True))
      if "munged" in line:
        deadline = time.monotonic() + 10
        while not (folder / "munge.socket").exists():
          assert time.monotonic() < deadline, (folder / "daemons.log").read_text()
          time.sleep(0.05)
    deadline = time.monotonic() + 30
    while said("sinfo", "-h", "-N", "-o", "%T", env=environment).split() != ["idle", "idle"]:
      running = all(daemon.poll() is None for daemon in daemons)
      assert running and time.monotonic() < deadline, "".join(log.read_text() for log in folder.glob("*.log"))
      time.sleep(0.2)
    yield environment
  finally:
    # jobs first, so that nothing of theirs is left
    if len(daemons) == len(lines):
      said("scancel", "--user", str(os.getuid()), env=environment)
      deadline = time.monotonic() + 15
      while said("squeue", "-h", env=environment) and time.monotonic() < deadline:
        time.sleep(0.2)
    for daemon in reversed(daemons):
      daemon.terminate()
    for daemon in reversed(daemons):
      with contextlib.suppress(subprocess.TimeoutExpired):
        daemon.wait(timeout=10)
      daemon.kill()
      daemon.wait()


def path():
  """PATH with the folders that daemons are in."""
  return os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])


def said(*words, env):
  """Standard output of a command, or nothing where it fails."""
  return subprocess.run(words, env=env, capture_output=True, text=True, timeout=30).stdout.strip()
