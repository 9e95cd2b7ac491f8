"""Pushes a trained network to the Hugging Face Hub, from where it loads again by name."""

import dataclasses
from typing import TYPE_CHECKING

from mnv3_jax.architectures import fields
from mnv3_jax.deploy.export_weights import check_exportable
from mnv3_jax.deploy.model_card import model_card, origin_of
from mnv3_jax.errors import UsageError
from mnv3_jax.training.named_weights import resolve
from mnv3_jax.training.trained import TrainedRun
from mnv3_jax.types import PathLike
from mnv3_jax.weights import own, targets, timm_config, written_files
from mnv3_jax.weights.hub import catalogue, repositories, uploads
from mnv3_jax.weights.hub.descriptions import description
from mnv3_jax.weights.targets import Target

if TYPE_CHECKING:
  from mnv3_jax.runs.run import Run


@dataclasses.dataclass(frozen=True)
class PushedWeights:
  """Weights on the Hugging Face Hub.

  Attributes:
    name: by which `load_weights` and every verb take them, "hf://USER/NAME".
    url: of their page.
    commit: with the files.
    library: whose names the weights have: "timm", which loads them too, or "mnv3_jax".
    files: size in bytes by name.
  """

  name: str
  url: str
  commit: str
  library: str
  files: dict[str, int] = dataclasses.field(repr=False)

  def lines(self) -> list[str]:
    """Formats it as text."""
    sizes = ", ".join(f"{name} ({size:,} bytes)" for name, size in self.files.items())
    return [f"{self.url}: {sizes}", f"  mnv3 predict --weights {self.name} photo.jpg"]


def push_to_hub(
  run: "TrainedRun | Run | PathLike",
  repository: str,
  *,
  private: bool = False,
  token: str | None = None,
  weights: str = "ema",
  license: str | None = None,
) -> PushedWeights:
  """Pushes a trained network to the Hugging Face Hub; `load_weights("hf://USER/NAME")` loads it again.

  One commit has model.safetensors, config.json (network, input preprocessing, classes) and a model card README.md. Where timm
  has a network that computes the same, the files are timm's, which loads them by `hf-hub:USER/NAME`.

  Args:
    run: a run, its directory, the name of published weights, or what `load` returned.
    repository: "user/name"; created if it does not exist.
    private: whether a new repository is private.
    token: of the account; None for the one of `hf auth login` or HF_TOKEN.
    weights: "ema", "raw" or "best", where `run` is not loaded yet.
    license: of the weights, an SPDX identifier; None for that of the published weights that they began with, if they did.

  Returns:
    The PushedWeights: name, url, commit, library, files.

  Raises:
    UsageError: if huggingface_hub is not installed, the server cannot be reached or refuses; for a quantization-aware run.
  """
  uploads.check_upload(repository)
  found = resolve(run, weights)
  check_exportable(found)
  target, origin = _target(found), origin_of(found)
  license = license or (origin.license if origin else None)
  model = {name: found.config.model[name] for name in ("name", *fields.FIELDS) if found.config.model[name] is not None}
  model = {name: value for name, value in model.items() if name not in fields.COMPUTE_FIELDS}
  model["num_classes"] = found.architecture.num_classes
  resolution = found.architecture.resolution
  config = description(target, model, resolution, found.dataset.preprocessing, found.classes, license)
  card = model_card(found, repository, library=target.format, license=license, origin=origin)
  files = {
    timm_config.WEIGHTS: written_files.safetensors_content(target.tensors(found.variables)),
    timm_config.CONFIG: config.encode(),
    repositories.CARD: card.encode(),
  }
  done = uploads.upload(repository, files, private=private, token=token, message=f"Weights of {found.architecture.name}")
  sizes = {name: len(content) for name, content in files.items()}
  return PushedWeights(f"{catalogue.HUB_PREFIX}{repository}", done.url, done.commit, target.format, sizes)


def _target(run: TrainedRun) -> Target:
  """Returns timm's network that computes the same, or this project's own names for it."""
  try:
    return targets.find("timm", run.architecture)
  except UsageError:
    return Target(own.SOURCE, run.config.model.name, {}, run.architecture)
