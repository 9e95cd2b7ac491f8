"""One attempt at a trial: `python -m mnv3_jax.sweeps.worker LOGS/NAME.trial.json`. What all engines run.

It runs the trial's commands one after the other, with their output in NAME.log, and ends with 0 (done), 1 (failed: starting
again would not help), 42 (it may) or 75 (another process has this trial). Told to stop (SIGTERM, SIGINT, SIGHUP, or the end of
--leash), it tells the command, and ends what is left of it after --grace seconds.
"""

import argparse
import contextlib
import ctypes
import os
import pathlib
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import time

from mnv3_jax.sweeps.trial import Place, Record, read, words

STATUS = {"done": 0, "failed": 1, "again": 42, "busy": 75}
# seconds between "stop" and the end of what has not stopped: time enough to save a checkpoint
GRACE = 60.0
PR_SET_PDEATHSIG = 1
LIBRARY = ctypes.CDLL(None, use_errno=True)


def main(arguments):
  """The command line; returns the exit status."""
  options = argparse.ArgumentParser(prog="python -m mnv3_jax.sweeps.worker", description=__doc__.splitlines()[0])
  options.add_argument("file", help="NAME.trial.json, as an engine has written it")
  options.add_argument("--leash", action="store_true", help="stop when standard input ends, which its writer's death does too")
  options.add_argument("--cores", default="", help="CPU cores to stay on: 0,1")
  options.add_argument("--multihost", default="", metavar="HOST:PORT,N,I", help="be one of several hosts")
  options.add_argument("--grace", type=float, default=GRACE, help="seconds to stop in")
  options.add_argument("--wait", type=float, default=5.0, help="seconds to wait for another process that has this trial")
  given = options.parse_args(arguments)
  if given.cores:
    os.sched_setaffinity(0, map(int, given.cores.split(",")))
  if given.leash and (other := os.fork()):
    return _accompany(other, given.file, given.multihost)
  record = attempt(given.file, leash=0 if given.leash else None, multihost=given.multihost, grace=given.grace, wait=given.wait)
  return STATUS[record.state]


def _accompany(other, file, multihost):
  """Waits for the process that makes the attempt, and returns its exit status.

  So that either of the two may be killed (Ray kills what its workers have started): the one that makes the attempt notices the
  end of its leash; where it is itself killed, this one ends what its command has started.
  """
  for number in asked():
    signal.signal(number, lambda number, _: os.kill(other, number))
  status = os.waitstatus_to_exitcode(os.waitpid(other, 0)[1])
  if status < 0:
    end_group(_place(file, multihost))
    # to be seen as killed by whoever waits for this one
    os.kill(os.getpid(), signal.SIGKILL)
  return status


def end_group(place):
  """Ends the command of an attempt that was killed, with all that it has started."""
  record = place.record()
  if record and record.state == "running" and record.group and record.host == socket.gethostname():
    with contextlib.suppress(ProcessLookupError):
      os.killpg(record.group, signal.SIGKILL)


def _place(file, multihost):
  """The Place of the trial in a file, on this one of its hosts."""
  trial, _ = read(file)
  member = 0 if multihost in ("", "auto") else int(multihost.rpartition(",")[2])
  # NAME may have slashes of its own
  return Place(str(pathlib.Path(file).absolute())[: -len(f"{trial.name}.trial.json")], trial.name, member)


def attempt(file, *, leash=None, multihost="", launcher=(), grace=GRACE, wait=5.0, failures=0):
  """Runs what is missing of a trial.

  Args:
    file: NAME.trial.json.
    leash: a file descriptor; its end means "stop".
    multihost: for `mnv3 train`, which is run on each of several hosts; other commands run on the first alone.
    launcher: words before such a command, which start it on all hosts.
    grace, wait: seconds, as on the command line.
    failures: of attempts before this one, for the record.

  Returns:
    its Record, which is in NAME.record.json too. Of an attempt that was told to stop, `sentence` begins with "stopped by".
  """
  (trial, cwd), place = read(file), _place(file, multihost)
  member = place.member
  os.chdir(cwd)
  with Stops(leash) as stops:
    lock, deadline = place.lock(), time.monotonic() + wait
    while not lock and time.monotonic() < deadline and not stops.by:
      stops.wait(0.2)
      lock = place.lock()
    if not lock:
      return Record("busy", "another process runs this trial")
    with lock:
      before = place.record()
      record = Record("running", failures=failures, host=socket.gethostname())
      spent = before.seconds if before else 0.0
      started = time.monotonic()
      if trial.done and not member:
        record.state, record.seconds = "done", spent
        place.keep(record)
        return record
      record.state = "done"
      for command in trial.commands:
        everywhere = bool(multihost) and tuple(command[:2]) == ("mnv3", "train")
        if member and not everywhere:
          continue
        line = [*launcher, *words(command), f"--multihost={multihost}"] if everywhere else words(command)
        record.state, record.sentence = _run(line, shlex.join(command), place, record, stops, grace)
        if record.state != "done":
          break
      if record.state == "done" and not member and not trial.done:
        missing = next(r for r in trial.results if not pathlib.Path(r).is_file())
        record.state, record.sentence = "failed", f"its commands ended well, but {str(missing)!r} is not there"
      record.group, record.seconds = None, spent + time.monotonic() - started
      place.keep(record)
      return record


def _run(line, shown, place, record, stops, grace):
  """(state, sentence) of one command that was run to its end."""
  if stops.by:
    return "again", f"stopped by {stops.by}"
  with place.log.open("ab", buffering=0) as log:
    log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {record.host}: {shown}\n".encode())
    try:
      child = subprocess.Popen(
        line,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.PIPE,
        bufsize=0,
        process_group=0,
        preexec_fn=die_with(os.getpid()),
      )
    except OSError as error:
      return "failed", f"{line[0]}: {os.strerror(error.errno).lower()}"
    place.keep(Record("running", seconds=record.seconds, failures=record.failures, host=record.host, group=child.pid))
    try:
      tail = _follow(child, log, stops, grace)
    finally:
      # whatever the command has left behind, too
      with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
      status = child.wait()
      child.stderr.close()
    state, sentence = judged(status, _last_line(tail))
    if stops.by and state != "done":
      state, sentence = "again", f"stopped by {stops.by}"
    if state != "done":
      log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {record.host}: {sentence}\n".encode())
    return state, sentence


def judged(status, last):
  """(state, sentence) of a command that ended with `status` (negative: a signal, as subprocess has it) and this last line."""
  if status == 0:
    return "done", ""
  if status == 42:
    return "again", last or "status 42"
  # a shell, and srun, add 128 to the number of a signal
  number = -status if status < 0 else status - 128
  if 0 < number < 65:
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    return "again", f"killed by {name}" + (f"; its last line: {last}" if last else "")
  return "failed", last or f"status {status}"


def _follow(child, log, stops, grace):
  """Copies what the command says on standard error until it ends, and tells it to stop; returns the end of what it said."""
  tail, deadline, said = b"", None, child.stderr.fileno()
  os.set_blocking(said, False)
  open_ = True
  while child.poll() is None:
    if stops.by and deadline is None:
      deadline = time.monotonic() + grace
      with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    if deadline is not None and time.monotonic() >= deadline:
      with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    stops.wait(0.5, [said] if open_ else [])
    more, open_ = _read(said, open_)
    log.write(more)
    tail = (tail + more)[-4096:]
  more, _ = _read(said, open_)
  log.write(more)
  return (tail + more)[-4096:]


def _read(descriptor, open_):
  """(what can be read without waiting, whether there may be more later)."""
  parts = []
  while open_:
    try:
      part = os.read(descriptor, 1 << 16)
    except BlockingIOError:
      break
    parts.append(part)
    open_ = bool(part)
  return b"".join(parts), open_


def _last_line(tail):
  lines = [line.strip() for line in tail.decode(errors="replace").replace("\r", "\n").splitlines()]
  return next((line for line in reversed(lines) if line), "").removeprefix("mnv3: ")[:400]


def die_with(parent):
  """What a child does before it becomes the command: it asks the kernel to be killed when its parent dies (Linux)."""
  if not hasattr(LIBRARY, "prctl"):
    return None

  def ask():
    LIBRARY.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # the parent may have died before the kernel was asked
    if os.getppid() != parent:
      os._exit(128 + signal.SIGKILL)

  return ask


class Stops:
  """A context in which signals, and the end of a leash, are noticed.

  Attributes:
    by: what has said "stop", or None.
  """

  def __init__(self, leash=None):
    self.leash, self.by = leash, None

  def __enter__(self):
    # a signal, that of a child's end included, is a byte here
    self.ours, theirs = socket.socketpair()
    self.theirs = theirs
    self.ours.setblocking(False)
    theirs.setblocking(False)
    self.before_fd = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    self.before = {s: signal.signal(s, self._ask) for s in asked()} | {
      signal.SIGCHLD: signal.signal(signal.SIGCHLD, lambda *_: None)
    }
    self.selector = selectors.DefaultSelector()
    self.selector.register(self.ours, selectors.EVENT_READ)
    if self.leash is not None:
      self.selector.register(self.leash, selectors.EVENT_READ)
    return self

  def __exit__(self, *_):
    for number, handler in self.before.items():
      signal.signal(number, handler)
    signal.set_wakeup_fd(self.before_fd)
    self.selector.close()
    self.ours.close()
    self.theirs.close()

  def _ask(self, number, _):
    self.by = self.by or signal.Signals(number).name

  def wait(self, seconds, descriptors=()):
    """Waits until a signal came, the leash has ended, one of the descriptors can be read, or the time is over."""
    for descriptor in descriptors:
      self.selector.register(descriptor, selectors.EVENT_READ)
    ready = self.selector.select(seconds)
    for descriptor in descriptors:
      self.selector.unregister(descriptor)
    for key, _ in ready:
      if key.fileobj is self.ours:
        with contextlib.suppress(BlockingIOError):
          self.ours.recv(4096)
      elif key.fileobj == self.leash and not os.read(self.leash, 4096):
        self.selector.unregister(self.leash)
        self.by, self.leash = self.by or "the end of the sweep", None


def asked():
  """The signals that ask a process to stop; SIGHUP is left alone under nohup."""
  hangup = [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN else []
  return [signal.SIGTERM, signal.SIGINT, *hangup]


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
