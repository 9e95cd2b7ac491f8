"""mnv3 train: trains a network, or resumes a run."""

from mnv3_jax.commands.options import Options, start_jax
from mnv3_jax.config_overrides import read_config

EXAMPLE = """mnv3 train --config configs/fashion_mnist.py --workdir /tmp/run --config.train.epochs=2

  Any field of the config can be set: --config.model.width=0.75 --config.optim.lr=0.05
  A config may take an argument: --config configs/fashion_mnist.py:mobilenetv3_large
  --init DIR fine-tunes; --config.optim.lr_groups=stem=0,block_0[12]=0,logits=2 freezes rows or changes their learning rate
  --init DIR --config.optim.layer_decay=0.75 lowers it by that factor for each row before the head
  --init DIR --config.quantize_aware=True fine-tunes for an int8 file, as configs/fashion_mnist_qat.py and
  configs/scenes_segmentation_qat.py do
  The same command again resumes after the last checkpoint, or does nothing when the run is finished."""


def main(arguments: list[str]) -> None:
  """Runs the verb; see mnv3 train --help."""
  options = Options("train", "Trains a network, or resumes a run.", EXAMPLE)
  options.add_argument("--config", required=True, metavar="FILE[:ARGUMENT]", help="a file or a name of configs/")
  options.add_argument("--workdir", required=True, metavar="DIR", help="run directory; created if it does not exist")
  options.add_argument(
    "--init",
    metavar="DIR|NAME",
    help="initial weights: directory of an import or of another run, or the name of published weights; new head",
  )
  options.add_argument(
    "--multihost",
    default="off",
    metavar="auto|off|HOST:PORT,N,I",
    help="one process of several: as SLURM, Open MPI or Cloud TPU tell it, or process I of N that meet at HOST:PORT (off)",
  )
  options.add_argument(
    "--profile", action="store_true", help="leave a trace of ten steps in DIR/profile: TensorBoard, Perfetto"
  )
  given, overrides = options.parse_with_config(arguments)
  config = read_config(given.config, overrides)
  start_jax()
  from mnv3_jax.training.run import train

  with options.naming_flags():
    train(config, given.workdir, init=given.init, multihost=given.multihost, profile=given.profile)
