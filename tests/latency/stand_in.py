"""An adb that is not one: it answers as it is told to, with what the real programs have printed, and keeps what it is asked."""

import json
import os
import pathlib
import sys

RECORDED = pathlib.Path(__file__).parent / "recorded"

# what `adb devices -l` prints for a phone that is ready, one that has not accepted this computer, one that does not answer
READY = "ebe3968d               device product:OP5B16L1 model:CPH2641 device:OP5B16L1 transport_id:1"
SECOND = "emulator-5554          device product:sdk_gphone64_arm64 model:sdk_gphone64_arm64 device:emu64a transport_id:2"
UNAUTHORIZED = "R58M123ABC             unauthorized usb:1-4 transport_id:3"
OFFLINE = "emulator-5556          offline transport_id:4"

PROGRAM = """#!{python} -IS
import hashlib, json, pathlib, sys
here, words = pathlib.Path(__file__).parent, sys.argv[1:]
play, kept = json.loads((here / "play.json").read_text()), words
if "push" in words:
  kept = [*words, hashlib.sha256(pathlib.Path(words[-2]).read_bytes()).hexdigest()]
with (here / "calls.jsonl").open("a") as f:
  f.write(json.dumps(kept) + "\\n")
if words[0] == "devices":
  print("List of devices attached\\n" + "\\n".join(play["devices"]) + "\\n")
for begin, (said, status) in play["shell"].items():
  if words[-2] == "shell" and words[-1].startswith(begin):
    print(said, end="")
    sys.exit(status)
"""


class Adb:
  """Writes the program into a folder.

  Attributes:
    path: of the program; its folder can go on PATH.
    play: what it does: "devices" are lines of `adb devices -l`, "shell" is {beginning of a command: (what it prints, status)}.
  """

  def __init__(self, folder, devices=(READY,), benchmark="tflite_benchmark_model_percentiles.txt", abis="arm64-v8a"):
    folder.mkdir(parents=True)
    self.path = folder / "adb"
    self.path.write_text(PROGRAM.format(python=sys.executable))
    self.path.chmod(0o755)
    said = benchmark if "\n" in benchmark else (RECORDED / benchmark).read_text()
    self.play = {
      "devices": list(devices),
      "shell": {
        "getprop ro.product.cpu.abilist": (f"{abis}\r\n", 0),
        "getprop ro.product.manufacturer": ("Google\r\nPixel 6\r\noriole\r\nTensor\r\n14\r\n", 0),
        "taskset": (said, 0),
      },
    }
    self.write()

  def write(self):
    """Brings `play` to the program."""
    (self.path.parent / "play.json").write_text(json.dumps(self.play))

  def calls(self):
    """What it was asked, in order: lists of words; a push has the SHA-256 of the file as its last."""
    file = self.path.parent / "calls.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

  @property
  def environment(self):
    """PATH with this adb before any other."""
    return {"PATH": os.pathsep.join([str(self.path.parent), os.environ["PATH"]])}


def program(path, machine=183):
  """Writes the beginning of a program for a machine (183: 64-bit Arm) and returns its path."""
  path.write_bytes(b"\x7fELF" + bytes(14) + machine.to_bytes(2, "little") + bytes(44))
  return path
