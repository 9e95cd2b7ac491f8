"""Latency of .tflite files on an Android device: TensorFlow Lite's or LiteRT's benchmark_model over adb, as the paper measured.

One large core, batch 1, one thread: `--cores f0` are cores 4 to 7, the large ones where a device has four and four.
"""

import dataclasses
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

from mnv3_jax.architectures.spec import nearest
from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.latency.timing import Latency

GET_ADB = "the Android platform-tools have it: https://developer.android.com/tools/releases/platform-tools"
GET_DEVICE = (
  "connect one by USB, switch on USB debugging in its developer options and accept this computer on its screen; "
  "`adb devices` then lists it"
)
GET_BINARY = (
  "the nightly build for 64-bit Arm is https://storage.googleapis.com/tensorflow-nightly-public/prod/tensorflow/"
  "release/lite/tools/nightly/latest/android_aarch64_benchmark_model"
)

# where it is looked for when no path is given
BINARIES = ("benchmark_model", "android_aarch64_benchmark_model")

# a folder that a shell on the device may write and run from
FOLDER = "/data/local/tmp/mnv3_jax"

# numbers of machines in an ELF header, and Android's names of them
MACHINES = {183: "arm64-v8a", 40: "armeabi-v7a", 62: "x86_64", 3: "x86"}

# seconds after which a command has hung; benchmark_model by itself stops after 150
PATIENCE = 400


@dataclasses.dataclass(frozen=True)
class ToolLatency(Latency):
  """What benchmark_model prints: no quartiles, and from older builds no median either.

  Attributes:
    mean_ms, std_ms, min_ms, max_ms: over the runs; None where they are not printed.
    median_is_mean: whether `median_ms` is the mean, for want of a median.
  """

  mean_ms: float
  std_ms: float | None
  min_ms: float | None
  max_ms: float | None
  median_is_mean: bool


class Phone:
  """An Android device.

  Args:
    serial: which one, as `adb devices` has it; None takes the only one.
    cores: mask of the cores to run on, in hexadecimal.
    threads: of the runtime.
    binary: path of benchmark_model for the device; None looks for it in the current directory.
    adb: name or path of the program.

  Raises:
    UsageError: for a mask that is none.
  """

  def __init__(self, serial=None, cores="f0", threads=1, binary=None, adb="adb"):
    if not re.fullmatch(r"(0x)?[0-9a-fA-F]{1,16}", cores) or int(cores, 16) == 0:
      raise UsageError(
        f"cores = {cores!r} is not possible; allowed: a mask of cores in hexadecimal, such as f0 (cores 4 to 7) or 80 (core 7)"
      )
    self.cores = f"{int(cores, 16):x}"
    self.serial, self.threads, self.binary, self.adb = serial, threads, binary, adb

  def describe(self):
    """What is measured on: {"device", "runtime", "threads", "kind", "cores"}.

    Raises:
      UsageError: without adb, a device that is ready, or benchmark_model; the sentence says how to get each.
    """
    serial = self._device()
    names = ("ro.product.manufacturer", "ro.product.model", "ro.product.board", "ro.soc.model", "ro.build.version.release")
    said = self._shell(serial, "; ".join(f"getprop {name}" for name in names)).splitlines()
    maker, model, board, soc, android = [line.strip() for line in said] + [""] * (len(names) - len(said))
    chip = ", ".join(dict.fromkeys(part for part in (board, soc) if part))
    device = f"{maker} {model}" if maker and not model.lower().startswith(maker.lower()) else model
    tool = hashlib.sha256(self._tool().read_bytes()).hexdigest()[:12]
    return {
      "device": f"{device}{f' ({chip})' if chip else ''}, Android {android}",
      "runtime": f"benchmark_model {tool}, XNNPACK",
      "threads": self.threads,
      "kind": "android",
      "cores": self.cores,
    }

  def measure(self, files, runs, warmup=20, heard=None):
    """Times files, one after the other.

    Args:
      files: {name: bytes of a .tflite file}.
      runs: invocations of each that count, at least: the tool goes on until it has run for a second.
      warmup: invocations of each that do not, at least.
      heard: called with (done, total) invocations after each file.

    Returns:
      {name: ToolLatency}.

    Raises:
      UsageError: without adb, a device that is ready, or benchmark_model; the sentence says how to get each.
      FatalError: where the tool fails, or prints what cannot be read.
    """
    serial, tool = self._device(), self._tool()
    self._runs_on(serial, tool)
    folder, found = f"{FOLDER}_{os.getpid()}", {}
    command = (
      f"taskset {self.cores} {folder}/benchmark_model --graph={folder}/m.tflite --num_threads={self.threads} "
      f"--warmup_runs={warmup} --num_runs={runs} --use_xnnpack=true"
    )
    try:
      self._shell(serial, f"mkdir -p {folder}")
      self._run("-s", serial, "push", str(tool), f"{folder}/benchmark_model")
      self._shell(serial, f"chmod 755 {folder}/benchmark_model")
      with tempfile.TemporaryDirectory() as here:
        draft = pathlib.Path(here) / "m.tflite"
        for name, content in files.items():
          draft.write_bytes(content)
          self._run("-s", serial, "push", str(draft), f"{folder}/m.tflite")
          found[name] = read(self._shell(serial, command), self.threads)
          if heard:
            heard(runs * len(found), runs * len(files))
    finally:
      # the device may be gone: what has gone wrong is said by the error that is on its way
      self._run("-s", serial, "shell", f"rm -rf {folder}", fail=False)
    return found

  def _device(self):
    """The serial number of the device that is meant, and ready."""
    listed = devices(self._run("devices", "-l"))
    if self.serial is not None and self.serial not in listed:
      choice = nearest(self.serial, listed) if listed else GET_DEVICE
      raise UsageError(f"no device {self.serial!r} is connected; {choice}")
    meant = {self.serial: listed[self.serial]} if self.serial is not None else listed
    ready = [serial for serial, (state, _) in meant.items() if state == "device"]
    if len(ready) > 1:
      names = ", ".join(f"{serial} ({meant[serial][1]})" if meant[serial][1] else serial for serial in ready)
      raise UsageError(f"{len(ready)} devices are connected: {names}; choose one with --adb=SERIAL")
    if ready:
      return ready[0]
    if not meant:
      raise UsageError(f"no Android device is connected; {GET_DEVICE}")
    serial, (state, _) = next(iter(meant.items()))
    remedy = {
      "unauthorized": "unlock it and accept this computer in the dialog on its screen",
      "offline": "plug it in again, or restart adb with `adb kill-server`",
      "no permissions": "add a udev rule for it: https://developer.android.com/studio/run/device#setting-up",
    }
    raise UsageError(f"device {serial!r} is not ready ({state}); {remedy.get(state, 'start Android on it')}")

  def _tool(self):
    """The path of benchmark_model on this machine."""
    if self.binary is None:
      found = [path for path in map(pathlib.Path, BINARIES) if path.is_file()]
      if not found:
        raise UsageError(
          f"no benchmark_model is in the current directory; --benchmark_model=PATH says where it is; {GET_BINARY}"
        )
      path = found[0]
    else:
      path = pathlib.Path(self.binary)
      if not path.is_file():
        raise UsageError(f"no file {self.binary!r}; --benchmark_model takes the program for the device; {GET_BINARY}")
    with path.open("rb") as file:
      if file.read(4) != b"\x7fELF":
        raise UsageError(f"{str(path)!r} is not a program for Android; {GET_BINARY}")
    return path

  def _runs_on(self, serial, tool):
    """Raises UsageError for a program that is for another processor than the device's."""
    with tool.open("rb") as file:
      machine = MACHINES.get(int.from_bytes(file.read(20)[18:20], "little"))
    known = self._shell(serial, "getprop ro.product.cpu.abilist").strip()
    if known and machine not in known.split(","):
      raise UsageError(f"{str(tool)!r} is for {machine or 'another machine'}, the device runs {known}; {GET_BINARY}")

  def _shell(self, serial, command):
    """What a command on the device prints."""
    return self._run("-s", serial, "shell", command)

  def _run(self, *words, fail=True):
    """What adb prints, both streams together; raises FatalError where it fails and that matters."""
    program = shutil.which(self.adb)
    if program is None:
      raise UsageError(f"no program {self.adb!r}; {GET_ADB}")
    said, status = "", None
    try:
      done = subprocess.run(
        [program, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE
      )
      said, status = done.stdout.decode(errors="replace").replace("\r\n", "\n"), done.returncode
    except subprocess.TimeoutExpired:
      if fail:
        raise FatalError(f"adb {words[-1]!r} did not come back within {PATIENCE} s") from None
    except OSError as error:
      raise UsageError(f"{program!r} cannot be run ({error.strerror}); {GET_ADB}") from None
    if status and fail:
      raise FatalError(f"adb {words[-1]!r} failed: {last_line(said) or f'status {status}'}")
    return said


def devices(text):
  """What `adb devices -l` lists: {serial: (state, model)}, the model empty where it is not said."""
  found = {}
  for line in text.splitlines():
    match = re.match(r"(\S+)\s+(no permissions|[a-z]+)\b(.*)", line)
    if match and not line.startswith(("* ", "List of ", "adb: ", "adb server")):
      model = re.search(r"model:(\S+)", match[3])
      found[match[1]] = match[2], model[1].replace("_", " ") if model else ""
  return found


def read(text, threads):
  """The ToolLatency in what benchmark_model prints.

  TensorFlow Lite's and LiteRT's tools both print a line "count=200 first=1407 ... avg=1379.64 std=14" in microseconds for the
  warm-up and one for the runs, newer builds with p5, median and p95; with one run it has only "count=1 curr=1379". Where there
  are no such lines, the milliseconds of LiteRT's summary are read: "Inference (avg):  1.38 ms (1000 runs)".

  Raises:
    FatalError: if no latency is in it, with the last line.
  """
  lines = [line for line in text.splitlines() if re.search(r"\bcount=\d+ .*curr=", line) and "Timings" not in line]
  # a tool that dies has counted the warm-up and has no summary
  if lines and "Inference (avg)" in text:
    values = {key: float(value) for key, value in re.findall(r"(\w+)=([\d.]+(?:e[+-]?\d+)?)", lines[-1])}
    scale, mean = 1e-3, values.get("avg", values["curr"])
  else:
    values = {key: float(value) for key, value in re.findall(r"Inference \((\w+)\):\s+([\d.]+)(?: ms)?\s*(?:\(|$)", text, re.M)}
    runs = re.search(r"Inference \(avg\):\s+[\d.]+ ms \((\d+) runs\)", text)
    if not runs:
      raise FatalError(f"benchmark_model did not say how long it took: {last_line(text) or 'it printed nothing'}")
    values["count"], scale, mean = float(runs[1]), 1, values["avg"]
  of = {key: scale * values[key] if key in values else None for key in ("std", "min", "max", "median")}
  return ToolLatency(
    median_ms=scale * mean if of["median"] is None else of["median"],
    p25_ms=None,
    p75_ms=None,
    runs=int(values["count"]),
    threads=threads,
    mean_ms=scale * mean,
    std_ms=of["std"],
    min_ms=of["min"],
    max_ms=of["max"],
    median_is_mean=of["median"] is None,
  )


def last_line(text):
  """The last line with something in it, short enough for a sentence."""
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  return lines[-1][:200] if lines else ""
