"""Model card of a repository on the Hugging Face Hub, README.md: network, metrics, data, command, license and usage."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from mnv3_jax.architectures import cost, sizes
from mnv3_jax.deploy.training_command import training_command
from mnv3_jax.names import counted, markdown
from mnv3_jax.runs.run import Run
from mnv3_jax.training.trained import TrainedRun
from mnv3_jax.weights.hub import catalogue

# runs that began with others' weights, before the search for the first one is given up
LONGEST_CHAIN = 10
PAPER = "[Searching for MobileNetV3](https://arxiv.org/abs/1905.02244)"


@dataclasses.dataclass(frozen=True)
class Origin:
  """Published weights that a run was imported from, or began with.

  Attributes:
    name: of the weights.
    url: their address; "" where it is not known.
    license: as their publisher states it; None where it states none.
  """

  name: str
  url: str
  license: str | None


def origin_of(run: TrainedRun) -> Origin | None:
  """Returns the published weights that a run was imported from or began with, by its directory and those it began with."""
  found: Run | None = Run(run.workdir)
  for _ in range(LONGEST_CHAIN):
    if found is None or not (found.workdir / "config.json").is_file():
      return None
    imported = (found.result or {}).get("imported")
    if imported:
      name = imported.get("name") or f"{imported.get('from')}/{imported.get('model')}"
      return Origin(str(name), str(imported.get("url", "")), imported.get("license"))
    init = str(found.config.train.init)
    if catalogue.is_name(init):
      known = catalogue.WEIGHTS.get(catalogue.ALIASES.get(init, init))
      return Origin(init, known.url if known else "", known.license if known else None)
    found = Run(init) if init else None
  return None


def model_card(run: TrainedRun, repository: str, *, library: str, license: str | None, origin: Origin | None) -> str:
  """Returns the text of README.md.

  Args:
    run: the trained network.
    repository: "user/name".
    library: the library whose names the weights have.
    license: of the weights; None if it is not known.
    origin: weights that it began with.
  """
  a, result = run.architecture, Run(run.workdir).result or {}
  header = [f"license: {license.lower()}"] if license else []
  header += [f"library_name: {library}", f"pipeline_tag: {run.task.pipeline_tag}"] if run.task.pipeline_tag else []
  header += ["tags:", "- mobilenet", "- jax", "- flax"]
  width = "" if a.width == 1 else f" at width {a.width:g}"
  classes = counted(a.num_classes, "class", "classes")
  sections = [
    "\n".join(["---", *header, "---"]),
    f"# {markdown(repository.partition('/')[2])}",
    f"{markdown(a.name)}{width} of {PAPER} and its siblings: {cost.params(a):,} parameters, {cost.madds(a) / 1e6:.1f} million "
    f"multiply-adds at {sizes.pixels(a.resolution)}, {classes}. {_weights(run)}",
    *_metrics(result),
    *_training(run, result, origin),
    *_usage(repository, library),
  ]
  return "\n\n".join(sections) + "\n"


def _weights(run: TrainedRun) -> str:
  return "Averaged weights" + f" of step {run.step:,}." if run.weights == "ema" else f"Weights of step {run.step:,}."


def _metrics(result: Mapping[str, Any]) -> list[str]:
  """Returns the section of metrics: ours, and of an import those that its publisher states."""
  rows = [
    f"| {split} | {weights} | {markdown(name)} | {value:.4g} |"
    for split, sets in result.get("metrics", {}).items()
    for weights, values in sets.items()
    for name, value in values.items()
    if name != "count"
  ]
  published = (result.get("imported") or {}).get("published") or {}
  rows += [f"| published, percent | | {markdown(str(name))} | {value:g} |" for name, value in published.items()]
  if not rows:
    return ["## Metrics", "Not evaluated."]
  return ["## Metrics", "\n".join(["| split | weights | metric | value |", "|---|---|---|---|", *rows])]


def _training(run: TrainedRun, result: Mapping[str, Any], origin: Origin | None) -> list[str]:
  data, found = run.config.data, ["## Training"]
  if origin:
    license = f"license {markdown(origin.license)}" if origin.license else "no license stated"
    place = f", {origin.url}" if origin.url else ""
    found.append(f"Initial weights: {markdown(origin.name)}{place}; {license}.")
  if "imported" in result:
    return [*found, "Imported, not trained further."]
  lines = [f"- data: {markdown(data.dataset)}, trained on `{data.train_split}`, evaluated on `{data.eval_split}`"]
  if result:
    lines.append(f"- {result.get('steps', 0):,} steps, {result.get('epochs', 0):g} epochs, seed {result.get('seed', 0)}")
    lines.append(f"- mnv3_jax {result.get('versions', {}).get('mnv3_jax', 'of another version')}")
  else:
    lines.append("- not finished")
  return [*found, "\n".join(lines), f"```sh\n{training_command(run.config)}\n```"]


def _usage(repository: str, library: str) -> list[str]:
  lines = [
    "import mnv3_jax as mnv3",
    "",
    f'run = mnv3.load_weights("hf://{repository}")',
    'print(mnv3.predict(run, "photo.jpg"))',
    "model, variables = run",
  ]
  found = ["## Usage", "\n".join(["```python", *lines, "```"])]
  if library == "timm":
    found.append(f'In timm: `timm.create_model("hf-hub:{repository}", pretrained=True)`.')
  return found
