"""Published weights as values: name, place of the file, network, published metrics and license."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from mnv3_jax.architectures import cost, sizes
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.types import Size
from mnv3_jax.weights import sources
from mnv3_jax.weights.hub.checksums import Checksum
from mnv3_jax.weights.mapping import Published


@dataclasses.dataclass(frozen=True)
class WebFile:
  """File at a published address.

  Attributes:
    url: its address.
    checksum: of its content; None where its publisher gives none.
    cache: whose cache keeps it, a key of caches.CACHES.
  """

  url: str
  checksum: Checksum | None
  cache: str


@dataclasses.dataclass(frozen=True)
class HubFile:
  """Weights of a repository of the Hugging Face Hub.

  Attributes:
    repository: "user/name".
    revision: branch, tag or commit; None for the newest.
  """

  repository: str
  revision: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class NamedWeights:
  """Published weights, which `load_weights` and `import_weights` take by name.

  Attributes:
    name: "SOURCE/NAME", as `load_weights` takes it.
    source: a key of sources.SOURCES.
    model: name of the network there, a key of sources.SOURCES[source].
    place: where the file is.
    license: of the weights as their publisher states it, an SPDX identifier; None where it states none.
    dataset: on which the metrics were computed; None without metrics.
    metrics: published metrics in percent by name: "top1", "top5", "miou", "pixel_accuracy", "ap".
    num_classes: number of classes where it is not that of the published network.
    fields: fields of config.model in which the weights differ from the published network, such as {"width": 0.75}.
    preprocessing: fields of config.data in which they differ from it.
    classes: names by label, where they are not those of the published network.
  """

  name: str
  source: str
  model: str
  place: WebFile | HubFile
  license: str | None
  dataset: str | None = "ImageNet-1K"
  metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
  num_classes: int | None = None
  fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  preprocessing: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  classes: tuple[str, ...] = ()

  @property
  def published(self) -> Published:
    """The network with its name map and preprocessing."""
    found = sources.published(self.source, self.model, **self.fields)
    return dataclasses.replace(found, preprocessing={**found.preprocessing, **self.preprocessing})

  @property
  def architecture(self) -> Architecture:
    """The network as a value."""
    return self.published.architecture(self.num_classes)

  @property
  def params(self) -> int:
    """Number of trainable parameters."""
    return cost.params(self.architecture)

  @property
  def resolution(self) -> Size:
    """Input size in pixels."""
    return self.architecture.resolution

  @property
  def url(self) -> str:
    """Address for people: of the file, or of the repository's page."""
    if isinstance(self.place, WebFile):
      return self.place.url
    at = f"/tree/{self.place.revision}" if self.place.revision else ""
    return f"https://huggingface.co/{self.place.repository}{at}"

  def cells(self) -> list[str]:
    """Returns the cells of a row of a table; HEAD has the headers."""
    a = self.architecture
    width = "" if a.width == 1 else f" {a.width:g}"
    metrics = ", ".join(f"{name} {value:g}" for name, value in self.metrics.items())
    return [self.name, a.name + width, f"{cost.params(a):,}", sizes.pixels(a.resolution), metrics or "-", self.license or "-"]

  def __str__(self) -> str:
    return "  ".join(self.cells())


# headers of NamedWeights.cells
HEAD = ("name", "network", "parameters", "input", "published, %", "license")
