"""Latency of .tflite files on an Android device: TensorFlow Lite's or LiteRT's benchmark_model over adb, as in the paper.

The paper times one large core, batch 1, one thread: cores="f0" selects cores 4 to 7, the large ones of a device with four and
four.
"""

import dataclasses
import hashlib
import math
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from typing import Any

from mnv3_jax.architectures.spec import nearest
from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.latency.timing import LatencyStats, OnProgress
from mnv3_jax.names import printable
from mnv3_jax.types import PathLike

GET_ADB = "the Android platform-tools have it: https://developer.android.com/tools/releases/platform-tools"
GET_DEVICE = (
  "connect one by USB, switch on USB debugging in its developer options and accept this computer on its screen; "
  "`adb devices` then lists it"
)
GET_TOOL = (
  "the nightly build for 64-bit Arm is https://storage.googleapis.com/tensorflow-nightly-public/prod/tensorflow/"
  "release/lite/tools/nightly/latest/android_aarch64_benchmark_model"
)

# default paths of benchmark_model
TOOL_NAMES = ("benchmark_model", "android_aarch64_benchmark_model")

# directory on the device in which a shell may write and execute
DEVICE_DIRECTORY = "/data/local/tmp/mnv3_jax"

# machine numbers of the ELF header and Android's names of them
MACHINES = {183: "arm64-v8a", 40: "armeabi-v7a", 62: "x86_64", 3: "x86"}

# timeout of a command in seconds; benchmark_model stops after 150 by itself
TIMEOUT = 400


@dataclasses.dataclass(frozen=True)
class AndroidLatencyStats(LatencyStats):
  """Statistics that benchmark_model prints: no quartiles, and in older builds no median.

  Attributes:
    mean_ms, std_ms, min_ms, max_ms: statistics over the runs; None if they are not printed.
    median_is_mean: whether `median_ms` is the mean because the tool prints no median.
  """

  mean_ms: float
  std_ms: float | None
  min_ms: float | None
  max_ms: float | None
  median_is_mean: bool


class AndroidDevice:
  """An Android device.

  Args:
    serial: serial number as in `adb devices`; None selects the only connected device.
    cores: hexadecimal mask of the cores to run on.
    threads: number of threads of the runtime.
    benchmark_model: path of the program benchmark_model for the device; None looks for it in the current directory.
    adb_program: name or path of adb.

  Raises:
    UsageError: for an invalid mask.
  """

  def __init__(
    self,
    serial: str | None = None,
    cores: str = "f0",
    threads: int = 1,
    benchmark_model: PathLike | None = None,
    adb_program: str = "adb",
  ) -> None:
    if not re.fullmatch(r"(0x)?[0-9a-fA-F]{1,16}", cores) or int(cores, 16) == 0:
      raise UsageError(
        f"invalid cores={cores!r}; expected a mask of cores in hexadecimal, such as f0 (cores 4 to 7) or 80 (core 7)"
      )
    self.cores = f"{int(cores, 16):x}"
    self.serial, self.threads, self.benchmark_model, self.adb_program = serial, threads, benchmark_model, adb_program

  def describe(self) -> dict[str, Any]:
    """Returns {"device", "runtime", "threads", "kind", "cores"}.

    Raises:
      UsageError: without adb, a ready device, or benchmark_model; the message tells how to get each.
    """
    serial = self._serial()
    names = ("ro.product.manufacturer", "ro.product.model", "ro.product.board", "ro.soc.model", "ro.build.version.release")
    lines = self._shell(serial, "; ".join(f"getprop {name}" for name in names)).splitlines()
    maker, model, board, soc, android = [line.strip() for line in lines[: len(names)]] + [""] * (len(names) - len(lines))
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

  def measure(
    self, files: Mapping[str, bytes], runs: int, warmup: int = 20, on_progress: OnProgress | None = None
  ) -> dict[str, AndroidLatencyStats]:
    """Times .tflite files, one after the other.

    Args:
      files: contents by name.
      runs: minimum number of measured invocations of each file: the tool runs for a second at least.
      warmup: minimum number of invocations of each file before the measured ones.
      on_progress: called with (done, total) invocations after each file.

    Returns:
      statistics by name.

    Raises:
      UsageError: without adb, a ready device, or benchmark_model; the message tells how to get each.
      FatalError: if the tool fails, or its output cannot be parsed.
    """
    serial, tool = self._serial(), self._tool()
    self._check_processor(serial, tool)
    directory, found = f"{DEVICE_DIRECTORY}_{os.getpid()}", {}
    command = (
      f"taskset {self.cores} {directory}/benchmark_model --graph={directory}/m.tflite --num_threads={self.threads} "
      f"--warmup_runs={warmup} --num_runs={runs} --use_xnnpack=true"
    )
    try:
      self._shell(serial, f"mkdir -p {directory}")
      self._adb("-s", serial, "push", str(tool), f"{directory}/benchmark_model")
      self._shell(serial, f"chmod 755 {directory}/benchmark_model")
      with tempfile.TemporaryDirectory() as local:
        draft = pathlib.Path(local) / "m.tflite"
        for name, content in files.items():
          draft.write_bytes(content)
          self._adb("-s", serial, "push", str(draft), f"{directory}/m.tflite")
          found[name] = parse_output(self._shell(serial, command), self.threads)
          if on_progress:
            on_progress(runs * len(found), runs * len(files))
    finally:
      # the device may be gone: an error that is being raised has the reason
      self._adb("-s", serial, "shell", f"rm -rf {directory}", check=False)
    return found

  def _serial(self) -> str:
    """Returns the serial number of the selected device if it is ready."""
    listed = parse_devices(self._adb("devices", "-l"))
    if self.serial is not None and self.serial not in listed:
      choice = nearest(self.serial, listed) if listed else GET_DEVICE
      raise UsageError(f"no device {self.serial!r} is connected; {choice}")
    selected = {self.serial: listed[self.serial]} if self.serial is not None else listed
    ready = [serial for serial, (state, _) in selected.items() if state == "device"]
    if len(ready) > 1:
      names = ", ".join(f"{serial} ({selected[serial][1]})" if selected[serial][1] else serial for serial in ready)
      raise UsageError(f"{len(ready)} devices are connected: {names}; choose one with adb=SERIAL")
    if ready:
      return ready[0]
    if not selected:
      raise UsageError(f"no Android device is connected; {GET_DEVICE}")
    serial, (state, _) = next(iter(selected.items()))
    remedy = {
      "unauthorized": "unlock it and accept this computer in the dialog on its screen",
      "offline": "plug it in again, or restart adb with `adb kill-server`",
      "no permissions": "add a udev rule for it: https://developer.android.com/studio/run/device#setting-up",
    }
    raise UsageError(f"device {serial!r} is not ready ({state}); {remedy.get(state, 'start Android on it')}")

  def _tool(self) -> pathlib.Path:
    """Returns the path of benchmark_model on this machine."""
    if self.benchmark_model is None:
      found = [path for path in map(pathlib.Path, TOOL_NAMES) if path.is_file()]
      if not found:
        raise UsageError(f"no benchmark_model in the current directory; give its path with benchmark_model=PATH; {GET_TOOL}")
      path = found[0]
    else:
      path = pathlib.Path(self.benchmark_model)
      if not path.is_file():
        raise UsageError(f"no file benchmark_model={str(path)!r}; expected the program for the device; {GET_TOOL}")
    with path.open("rb") as file:
      if file.read(4) != b"\x7fELF":
        raise UsageError(f"{str(path)!r} is not a program for Android; {GET_TOOL}")
    return path

  def _check_processor(self, serial: str, tool: pathlib.Path) -> None:
    """Raises UsageError for a program built for another processor than the device's."""
    with tool.open("rb") as file:
      machine = MACHINES.get(int.from_bytes(file.read(20)[18:20], "little"))
    supported = self._shell(serial, "getprop ro.product.cpu.abilist").strip()
    if supported and machine not in supported.split(","):
      raise UsageError(f"{str(tool)!r} is for {machine or 'another machine'}, the device runs {supported}; {GET_TOOL}")

  def _shell(self, serial: str, command: str) -> str:
    """Returns the output of a command on the device."""
    return self._adb("-s", serial, "shell", command)

  def _adb(self, *words: str, check: bool = True) -> str:
    """Returns the output of adb, both streams together; raises FatalError if it fails and `check` is set."""
    program = shutil.which(self.adb_program)
    if program is None:
      raise UsageError(f"no program {self.adb_program!r}; {GET_ADB}")
    output, status = "", None
    try:
      done = subprocess.run(
        [program, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT
      )
      # adb and shells of old devices end lines in several ways
      text = re.sub(r"\r+\n?", "\n", done.stdout.decode(errors="replace")).expandtabs()
      # a device may answer anything, and messages and tables have its words
      output, status = "\n".join(map(printable, text.split("\n"))), done.returncode
    except subprocess.TimeoutExpired:
      if check:
        raise FatalError(f"adb {words[-1]!r} did not finish within {TIMEOUT} s") from None
    except OSError as error:
      raise UsageError(f"{program!r} cannot be run ({error.strerror}); {GET_ADB}") from None
    if status and check:
      raise FatalError(f"adb {words[-1]!r} failed: {_last_line(output) or f'status {status}'}")
    return output


def parse_devices(text: str) -> dict[str, tuple[str, str]]:
  """Parses the output of `adb devices -l` as {serial: (state, model)}; the model is empty where it is not printed."""
  found = {}
  for line in text.splitlines():
    match = re.match(r"(\S+)\s+(no permissions|[a-z]+)\b(.*)", line)
    if match and not line.startswith(("* ", "List of ", "adb: ", "adb server")):
      model = re.search(r"model:(\S+)", match[3])
      found[match[1]] = match[2], model[1].replace("_", " ") if model else ""
  return found


def parse_output(text: str, threads: int) -> AndroidLatencyStats:
  """Parses the output of benchmark_model.

  TensorFlow Lite's and LiteRT's tools both print a line "count=200 first=1407 ... avg=1379.64 std=14" in microseconds for the
  warm-up and one for the runs, newer builds with p5, median and p95; with one run it has only "count=1 curr=1379". Where there
  are no such lines, the milliseconds of LiteRT's summary are read: "Inference (avg):  1.38 ms (1000 runs)".

  Raises:
    FatalError: if the output has no latency; the message has its last line.
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
      raise FatalError(f"no latency in the output of benchmark_model: {_last_line(text) or 'it is empty'}")
    values["count"], scale, mean = float(runs[1]), 1, values["avg"]
  if not all(math.isfinite(value) for value in values.values()) or not 0 < scale * mean < 1e9:
    raise FatalError(f"no latency in the output of benchmark_model: {_last_line(text)}")
  std, least, most, median = (scale * values[key] if key in values else None for key in ("std", "min", "max", "median"))
  return AndroidLatencyStats(
    median_ms=scale * mean if median is None else median,
    p25_ms=None,
    p75_ms=None,
    runs=int(values["count"]),
    threads=threads,
    mean_ms=scale * mean,
    std_ms=std,
    min_ms=least,
    max_ms=most,
    median_is_mean=median is None,
  )


def _last_line(text: str) -> str:
  """Returns the last line that is not blank, at most 200 characters of it."""
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  return lines[-1][:200] if lines else ""
