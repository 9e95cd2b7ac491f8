"""mnv3 train: trains, or goes on where a run stopped."""

from mnv3_jax.commands.options import Options, start_jax
from mnv3_jax.config import check, read_config

EXAMPLE = """mnv3 train --config configs/fashion_mnist.py --workdir /tmp/run --config.train.epochs=2

  Any field of the config can be set: --config.model.width=0.75 --config.optim.lr=0.05
  A config may take an argument: --config configs/fashion_mnist.py:mobilenetv3_large
  --init DIR fine-tunes; --config.optim.lr_groups=stem=0,block_0[12]=0,logits=2 freezes rows or changes their learning rate
  --init DIR --config.quantize_aware=True fine-tunes for an int8 file; configs/fashion_mnist_qat.py is such a recipe
  The same command again goes on after the last checkpoint, or does nothing when the run is done."""


def main(arguments):
  """Runs the verb; see mnv3 train --help."""
  options = Options("train", "Trains a network, or goes on where a run stopped.", EXAMPLE)
  options.add_argument("--config", required=True, metavar="FILE[:ARGUMENT]", help="a file of configs/")
  options.add_argument("--workdir", required=True, metavar="DIR", help="directory of the run; made if it is not there")
  options.add_argument("--init", metavar="DIR", help="weights to start from: an import's or another run's directory; new head")
  options.add_argument(
    "--multihost",
    default="off",
    metavar="auto|off|HOST:PORT,N,I",
    help="one process of several: as SLURM, Open MPI or Cloud TPU says, or process I of N that meet at HOST:PORT (off)",
  )
  options.add_argument(
    "--profile", action="store_true", help="leave a trace of ten steps in DIR/profile: TensorBoard, Perfetto"
  )
  options.add_argument("--config.SECTION.FIELD", metavar="VALUE", dest="unused", help="sets a field of the config")
  given, rest = options.parse_known_args(arguments)
  options.refuse([word for word in rest if not word.startswith("--config.")])
  config = read_config(given.config, rest)

  if given.init:
    config.train.init = given.init
  start_jax()
  from mnv3_jax.data import factory
  from mnv3_jax.runs.directory import RunDirectory
  from mnv3_jax.tasks import job
  from mnv3_jax.training import hosts, start
  from mnv3_jax.training.loop import train

  hosts.join(given.multihost)
  if config.train.init:
    start.inherit(config, given.workdir)
  check(config)
  begun = RunDirectory(given.workdir)
  if (begun.path / "config.json").is_file():
    # a run that is done needs its photos no more
    factory.recall(config, begun.config())
  config.data.classes = tuple(hosts.alike(lambda: factory.complete(config), "the classes"))
  train(config, given.workdir, job.of(config), profile=given.profile)
