"""The command line: python -m mnv3_jax VERB, or mnv3 VERB.

One sentence on standard error where something is wrong, and an exit status: 0 done, 1 stopped for good, 2 wrong use,
42 start me again.
"""

import errno
import importlib
import os
import sys

from mnv3_jax.architectures.spec import ArchitectureError, nearest
from mnv3_jax.errors import FatalError, RetryableError, UsageError

VERBS = {
  "data": "show what a network will see of a data set, and time the pipeline",
  "train": "train a network, or go on where a run stopped",
  "evaluate": "evaluate a run on every test example",
  "predict": "name what is on photos",
  "summary": "print a network as the paper's table, with its cost",
  "import": "take weights from torchvision, timm, Keras or TF-slim",
  "export": "write a .tflite file",
  "benchmark": "time .tflite files on this machine or a phone, by operator and block",
  "latency_table": "time the blocks of networks, so that the latency of others can be predicted",
  "report": "write a page about a run: figures, learning curve, predictions",
  "table": "show a table or figure of the paper, ours beside the paper's",
  "sweep": "run what a table needs: here, on a Ray cluster or under SLURM",
}


# what is wrong with a path that the caller gave
PLACES = (
  errno.EACCES,
  errno.EEXIST,
  errno.EISDIR,
  errno.ENAMETOOLONG,
  errno.ENOENT,
  errno.ENOTDIR,
  errno.EPERM,
  errno.EROFS,
)


def usage():
  """What `mnv3 --help` prints."""
  verbs = "\n".join(f"  {verb:<13} {what}" for verb, what in VERBS.items())
  return f"usage: mnv3 VERB [options]\n\n{verbs}\n\nmnv3 VERB --help has the options of each and an example."


def run(arguments):
  """Runs one command line (a list of words) and returns its exit status."""
  if not arguments or arguments[0] in ("-h", "--help", "help"):
    print(usage())
    return 0 if arguments else 2
  verb, *rest = arguments
  if verb == "--version":
    from mnv3_jax import __version__

    print(f"mnv3_jax {__version__}")
    return 0
  if verb not in VERBS:
    raise UsageError(f"no verb {verb!r}; {nearest(verb, VERBS)}")
  return importlib.import_module(f"mnv3_jax.commands.{verb}").main(rest) or 0


def main():
  """The console script."""
  end(lambda: run(sys.argv[1:]))


def end(work):
  """Does `work` and ends the process: with the status that it returns, or with that of what it raises, and one sentence."""
  try:
    status = work()
    # a reader that went away is noticed here and not at exit
    sys.stdout.flush()
    sys.exit(status)
  except (UsageError, ArchitectureError) as error:
    status, sentence = 2, error
  except (FatalError, RetryableError) as error:
    status, sentence = 42 if isinstance(error, RetryableError) else 1, error
    if error.at_once:
      complain(sentence)
      os._exit(status)
  except KeyboardInterrupt:
    status, sentence = 130, "interrupted"
  except BrokenPipeError:
    # the reader of our output went away, as `head` does
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(141)
  except OSError as error:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
      status, sentence = 1, f"the disk is full: {error.filename or error}"
    elif error.errno in PLACES:
      status, sentence = 2, f"{error.filename or error}: {os.strerror(error.errno).lower()}"
    else:
      raise
  complain(sentence)
  sys.exit(status)


def complain(sentence):
  """Writes a line to standard error at once, so that another thread's words cannot come between it and its end."""
  sys.stderr.write(f"mnv3: {sentence}\n")
  sys.stderr.flush()


if __name__ == "__main__":
  main()
