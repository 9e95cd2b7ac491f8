"""What a verb times files on: this machine, or an Android device."""

from mnv3_jax.commands.options import threads
from mnv3_jax.errors import UsageError

ANY = "the only one"


def add_device(options):
  """--threads, --adb, --cores and --benchmark_model."""
  options.add_argument("--threads", type=threads, default=1, metavar="N", help="threads of the runtime (1, as in the paper)")
  add_phone(options)


def add_phone(options):
  """--adb, --cores and --benchmark_model."""
  options.add_argument(
    "--adb", nargs="?", const=ANY, metavar="SERIAL", help="time on the Android device of this serial number, or the only one"
  )
  options.add_argument("--cores", metavar="MASK", help="with --adb: the cores to run on, in hexadecimal (f0, cores 4 to 7)")
  options.add_argument("--benchmark_model", metavar="PATH", help="with --adb: the program for the device (benchmark_model)")


def device(given):
  """The device that the options mean: a latency.timing.Host or a latency.android.Phone.

  Raises:
    UsageError: for options that do not go together.
  """
  from mnv3_jax.latency.android import Phone
  from mnv3_jax.latency.timing import Host

  check(given)
  if given.adb:
    return Phone(None if given.adb == ANY else given.adb, given.cores or "f0", given.threads, given.benchmark_model)
  return Host(given.threads)


def check(given):
  """Raises UsageError for options that go with --adb alone."""
  for name, words in (("--cores", given.cores), ("--benchmark_model", given.benchmark_model)):
    if words and not given.adb:
      raise UsageError(f"{name} goes with --adb")
