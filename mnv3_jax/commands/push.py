"""mnv3 push: uploads a trained network to the Hugging Face Hub."""

from mnv3_jax.commands.given_run import add_run, check_run, load_run
from mnv3_jax.commands.options import Options, start_jax

EXAMPLE = """mnv3 push --workdir runs/small USER/NAME
  mnv3 push --workdir runs/small USER/NAME --private --license apache-2.0
  mnv3 predict --weights hf://USER/NAME photo.jpg      (and evaluate, export, train --init)

  The account is that of `hf auth login`, or of the token in HF_TOKEN."""


def main(arguments: list[str]) -> None:
  """Runs the verb; see mnv3 push --help."""
  what = "Uploads weights, network, input preprocessing and a model card to the Hugging Face Hub, in one commit."
  options = Options("push", what, EXAMPLE)
  add_run(options, dest="run")
  options.add_argument("repository", metavar="USER/NAME", help="repository to create or to update")
  options.add_argument("--private", action="store_true", help="a new repository is private")
  options.add_argument(
    "--license", metavar="ID", help="license of the weights (that of the published weights that they began with, if they did)"
  )
  given = options.parse(arguments)
  check_run(options, given, "run")
  start_jax()
  from mnv3_jax.deploy.push import push_to_hub
  from mnv3_jax.weights.hub.uploads import check_upload

  with options.naming_flags():
    # before a download
    check_upload(given.repository)
    pushed = push_to_hub(load_run(given, "run"), given.repository, private=given.private, license=given.license)
  print("\n".join(pushed.lines()))
