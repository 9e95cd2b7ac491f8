"""Full disk: a small tmpfs in a mount namespace of its own (unshare of util-linux)."""

import os
import subprocess

from conftest import ROOT


def inside(folder, kilobytes, *command, env=None):
  """Runs a command with an empty file system of this size at `folder`; returns (status, output, names left in it)."""
  folder.mkdir()
  script = f'mount -t tmpfs -o size={kilobytes}k tmpfs "$0" && "$@"; echo "status $?"; cd "$0" && find . -mindepth 1 | sort'
  path = os.pathsep.join(filter(None, [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH")]))
  words = ["unshare", "-rm", "sh", "-c", script, str(folder), *map(str, command)]
  environment = {**os.environ, "PYTHONPATH": path, **(env or {})}
  done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=200)
  assert done.returncode == 0, done.stderr
  output, _, rest = done.stdout.rpartition("status ")
  status, *left = rest.splitlines()
  return int(status), output + done.stderr, left
