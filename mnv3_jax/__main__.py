"""Command line: python -m mnv3_jax VERB, or mnv3 VERB.

Errors are one sentence on standard error. Exit statuses: 0 done, 1 unrecoverable error, 2 wrong use, 42 interrupted, to be
started again; 130 ended by SIGINT (Ctrl-C), 143 by SIGTERM and 129 by SIGHUP, where there is nothing to be saved.
"""

import errno
import importlib
import os
import sys
from collections.abc import Callable, Sequence

from mnv3_jax.architectures.spec import ArchitectureError, nearest
from mnv3_jax.commands.streams import prepare_streams, silence
from mnv3_jax.commands.termination import Terminated, Terminating
from mnv3_jax.errors import NO_SPACE, FatalError, RetryableError, UsageError, first_line

VERBS = {
  "data": "inspect a data set, draw a contact sheet of it, and time its input pipeline",
  "train": "train a network, or resume a run",
  "evaluate": "evaluate a run on every test example",
  "predict": "predict images: the likeliest classes, or a class for every pixel",
  "summary": "print a network as the paper's table, with its cost",
  "import": "import weights of torchvision, timm, Keras, TF-slim or TF Object Detection",
  "export": "write a .tflite file",
  "export_weights": "write weights for timm, torchvision, Keras or TF-slim",
  "push": "upload weights and a model card to the Hugging Face Hub",
  "benchmark": "time .tflite files on this machine or a phone, by operator and block",
  "compile": "compile a training for a TPU slice without one: memory, estimated time, bounds",
  "latency_table": "time the blocks of networks, to predict the latency of others",
  "search": "search an architecture for a latency: NetAdapt, platform-aware search, supernets",
  "report": "write a page about a run: metrics, learning curve, predictions",
  "table": "show a table or figure of the paper, our results beside the paper's",
  "sweep": "run the trainings of a table: here, on a Ray cluster or under SLURM",
}


# errors of paths that the caller gave
PATH_ERRORS = (
  errno.EACCES,
  errno.EEXIST,
  errno.EISDIR,
  errno.ENAMETOOLONG,
  errno.ENOENT,
  errno.ENOTDIR,
  errno.EPERM,
  errno.EROFS,
)
# of disks and file servers that fail
DISK_ERRORS = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENOTCONN)
# in messages of errors of other kinds
OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "Cannot allocate memory", "can't start new thread", "Out of memory", "bad_alloc")


def usage() -> str:
  """Returns the text of `mnv3 --help`."""
  verbs = "\n".join(f"  {verb:<14} {summary}" for verb, summary in VERBS.items())
  return f"usage: mnv3 VERB [options]\n\n{verbs}\n\nmnv3 VERB --help has the options of each and an example."


def run(arguments: Sequence[str]) -> int:
  """Runs one command line and returns its exit status."""
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


def main() -> None:
  """The console script."""
  end(lambda: run(sys.argv[1:]))


def end(work: Callable[[], int]) -> None:
  """Calls `work` and exits with the status that it returns, or with that of its exception, whose message is printed."""
  prepare_streams()
  try:
    with Terminating():
      status = work()
    # raises BrokenPipeError here and not at exit
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
  except Terminated as error:
    status, sentence = error.status, error
  except MemoryError as error:
    status, sentence = 1, f"out of memory: {first_line(error)}"
  except BrokenPipeError:
    # the reader closed our output, as `head` does
    silence(1)
    sys.exit(141)
  except OSError as error:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
      status, sentence = 1, f"the disk is full: {error.filename or error}"
      try_flush()
    elif error.errno in PATH_ERRORS:
      status, sentence = 2, f"{error.filename or error}: {os.strerror(error.errno).lower()}"
    elif error.errno in DISK_ERRORS and error.filename:
      status, sentence = 1, f"{error.filename}: {os.strerror(error.errno).lower()}"
      try_flush()
    elif error.errno == errno.ENOMEM:
      status, sentence = 1, f"out of memory: {error.filename or error}"
    else:
      raise
  except Exception as error:
    # of JAX, of threads that cannot start, of libraries that cannot be loaded, and what fails while MemoryError is handled
    if NO_SPACE in str(error):
      # RESOURCE_EXHAUSTED too
      status, sentence = 1, f"the disk is full: {first_line(error)}"
    elif _out_of_memory(error):
      status, sentence = 1, f"out of memory: {first_line(error)}"
    else:
      raise
  complain(sentence)
  sys.exit(status)


def _out_of_memory(error: BaseException | None) -> bool:
  """Tells whether an exception, or one that it followed, is for want of memory."""
  return error is not None and (
    isinstance(error, MemoryError)
    or any(words in str(error) for words in OUT_OF_MEMORY)
    or _out_of_memory(error.__cause__ or error.__context__)
  )


def complain(sentence: object) -> None:
  """Prints an error in one write, so that output of another thread cannot split it."""
  try:
    sys.stderr.write(f"mnv3: {sentence}\n")
    sys.stderr.flush()
  except OSError:
    silence(2)


def try_flush() -> None:
  """Flushes standard output, or gives up what is left in its buffer."""
  try:
    sys.stdout.flush()
  except OSError:
    silence(1)


if __name__ == "__main__":
  main()
