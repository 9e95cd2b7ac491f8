"""MnasNet's factorized hierarchical search space: choices by stage, and the network that they make."""

import dataclasses
import hashlib
import itertools
import json
import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from mnv3_jax.architectures import block_text, fields
from mnv3_jax.architectures.spec import Architecture, make_divisible, nearest
from mnv3_jax.errors import UsageError
from mnv3_jax.paths import expanded
from mnv3_jax.runs.atomic import read_json, write_atomically
from mnv3_jax.types import PathLike

# {"stage_1.kernel": 3, ...}: a value for every key of SearchSpace.options
Choices: TypeAlias = dict[str, Any]


class Op(NamedTuple):
  """Operation of a layer: kind of its block, a key of block_text.KINDS, and expansion factor."""

  kind: str
  factor: int


# from the smallest to the largest
OPS = {
  "depthwise": Op("k", 1),
  "mbconv3": Op("k", 3),
  "mbconv6": Op("k", 6),
  **{f"uib{factor}": Op("u", factor) for factor in (2, 3, 4, 6)},
  **{f"fused{factor}": Op("f", factor) for factor in (2, 3, 4, 6)},
}
MNASNET_OPS = ("depthwise", "mbconv3", "mbconv6")
SKIPS = ("identity", "none")
# number of filters by stage, number of layers, stride: Table 2 of MobileNetV2, whose rows MnasNet varies
V2_STAGES = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
FILTER_FACTORS = (0.75, 1.0, 1.25)
LAYER_CHANGES = (-1, 0, 1)
# choices that make a kind of block
KINDS = ("op", "kernel", "start", "se", "skip")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
  """Choices of a stage: one layer repeated, of which the first has the stride.

  Attributes:
    filters: output channels.
    layers: number of layers, at least 1.
    stride: of the first layer, not a choice.
    ops: keys of OPS: MnasNet's three, or universal inverted bottlenecks ("uib4") or fused ones ("fused4") of MobileNetV4.
    kernels: depthwise kernel sizes, or those of the expansion of a fused operation; 0 for none, with `starts` alone.
    starts: kernel sizes of the depthwise convolution before the expansion of universal operations, 0 for none; None where
      there is no such choice.
    se_ratios: squeeze-excite ratios; 0 for none.
    skips: values of SKIPS.
    activation: of its blocks, not a choice.

  Raises:
    UsageError: at construction, for choices that are missing, doubled, or not possible.
  """

  filters: tuple[int, ...]
  layers: tuple[int, ...]
  stride: int = 1
  ops: tuple[str, ...] = MNASNET_OPS
  kernels: tuple[int, ...] = (3, 5)
  starts: tuple[int, ...] | None = None
  se_ratios: tuple[float, ...] = (0.0, 0.25)
  skips: tuple[str, ...] = SKIPS
  activation: str = "relu"

  def __post_init__(self) -> None:
    for name, values in self.options.items():
      if not values or len(set(values)) < len(values):
        raise UsageError(f"invalid {name}={values!r} of a stage; expected at least one value, each once")
    for name, values, known in (("ops", self.ops, OPS), ("skips", self.skips, SKIPS)):
      for value in values:
        if value not in known:
          raise UsageError(f"invalid {name}={value!r} of a stage; {nearest(value, known)}")
    self._check_starts()
    least = 1 if self.starts is None else 0
    for name, values, at_least in (
      ("filters", self.filters, 1),
      ("layers", self.layers, 1),
      ("kernels", self.kernels, least),
      ("starts", self.starts or (), 0),
    ):
      if not all(isinstance(n, int) and at_least <= n <= 10_000 for n in values):
        raise UsageError(f"invalid {name}={values!r} of a stage; expected whole numbers of at least {at_least}")
    if not all(isinstance(ratio, int | float) and 0 <= ratio < 8 for ratio in self.se_ratios):
      raise UsageError(f"invalid se_ratios={self.se_ratios!r} of a stage; expected 0 for none, or shares such as 0.25")
    activations = block_text.ACTIVATIONS.values()
    if self.activation not in activations:
      raise UsageError(f"invalid activation={self.activation!r} of a stage; {nearest(self.activation, activations)}")
    if self.stride not in (1, 2):
      raise UsageError(f"invalid stride={self.stride!r} of a stage; expected 1 or 2")

  def _check_starts(self) -> None:
    """Raises UsageError for `starts` that a network of the stage could not have."""
    universal = {OPS[op].kind == "u" for op in self.ops}
    if True in universal and (self.starts is None or False in universal):
      raise UsageError(
        f"invalid ops={self.ops!r} of a stage with starts={self.starts!r}; universal ones need them, and no others"
      )
    if self.starts is not None and True not in universal:
      raise UsageError(f"invalid starts={self.starts!r} of a stage; expected None, only universal operations have them")
    if self.starts is not None and self.stride == 2 and 0 in self.starts and 0 in self.kernels:
      raise UsageError(
        f"invalid starts={self.starts!r} of a stage of stride 2 with kernels={self.kernels!r}; expected no 0 in one of them, "
        "since a layer without depthwise convolutions has no stride"
      )

  @property
  def options(self) -> dict[str, tuple[Any, ...]]:
    """The values of each choice, by the choice's name."""
    return {
      "op": self.ops,
      "kernel": self.kernels,
      **({} if self.starts is None else {"start": self.starts}),
      "se": self.se_ratios,
      "skip": self.skips,
      "filters": self.filters,
      "layers": self.layers,
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchSpace:
  """Factorized hierarchical search space (MnasNet, section 4.2): each stage repeats one layer, stages differ.

  The stages replace the blocks of a network; its stem, last 1x1 convolution and head stay. Against MnasNet's space:

  - ConvOp: `depthwise` (depthwise and 1x1 convolution) and MBConv with the expansions 3 and 6 that MnasNet-A1 has. Left out is
    the ordinary convolution, which MnasNet-A1 does not have. A stage may have the two kinds of MobileNetV4 instead.
  - SkipOp: `identity` and `none`. Left out is pooling, for the same reason.
  - Filters and layers are those of MobileNetV2 times 0.75, 1, 1.25, and plus -1, 0, 1. Filters are rounded to multiples of 8
    and layers are at least 1; values that fall together are one value.

  Every combination is a network. `identity` adds a layer's input wherever the layer has stride 1 and as many output channels,
  the first of a stage included. Where no layer of a stage has that, the choice has no effect and `canonical` sets its first
  value.

  Attributes:
    stages: choices of each stage.
    se_of: squeeze-excite as a share of the block's "input" (MnasNet) or of its "expansion" (V3).
  """

  stages: tuple[Stage, ...]
  se_of: str = "input"

  def __post_init__(self) -> None:
    if not self.stages:
      raise UsageError("invalid stages=(); expected at least one")
    if self.se_of not in ("input", "expansion"):
      raise UsageError(f"invalid se_of={self.se_of!r} of a search space; {nearest(self.se_of, ('input', 'expansion'))}")

  @property
  def options(self) -> dict[str, tuple[Any, ...]]:
    """The values of every choice, by its name: {"stage_1.op": ("depthwise", ...), ...}."""
    return {f"stage_{i}.{n}": values for i, stage in enumerate(self.stages, 1) for n, values in stage.options.items()}

  @property
  def size(self) -> int:
    """Number of combinations."""
    return math.prod(len(values) for values in self.options.values())

  def random(self, rng: np.random.Generator) -> Choices:
    """Draws every choice uniformly, in canonical form."""
    return self.canonical({name: values[int(rng.integers(len(values)))] for name, values in self.options.items()})

  def canonical(self, choices: Mapping[str, Any]) -> Choices:
    """Returns choices in the order of `options`, a choice without effect at its first value.

    Raises:
      UsageError: for choices of another space.
    """
    options = self.options
    for name in {**options, **choices}:
      if name not in options or choices.get(name) not in options[name]:
        raise UsageError(f"invalid choice {name}={choices.get(name)!r}; it is not one of this search space")
    found = {name: choices[name] for name in options}
    inputs = None
    for i, stage in enumerate(self.stages, 1):
      filters, layers = found[f"stage_{i}.filters"], found[f"stage_{i}.layers"]
      # the channels before the first stage are those of a stem
      if layers == 1 and (stage.stride > 1 or inputs not in (None, filters)):
        found[f"stage_{i}.skip"] = stage.skips[0]
      inputs = filters
    return found

  def blocks(self, choices: Mapping[str, Any]) -> str:
    """Returns the value of config.model.blocks for choices; canonical ones that differ have different values."""
    found, texts = self.canonical(choices), []
    for i, stage in enumerate(self.stages, 1):
      chosen = {name: found[f"stage_{i}.{name}"] for name in stage.options}
      for layer in range(chosen["layers"]):
        texts.append(
          block_text.block_text(
            kernel=chosen["kernel"],
            factor=OPS[chosen["op"]].factor,
            out=chosen["filters"],
            stride=stage.stride if layer == 0 else 1,
            activation=stage.activation,
            squeeze="si" if self.se_of == "input" else "se",
            ratio=chosen["se"],
            skip=chosen["skip"] == "identity",
            kind=OPS[chosen["op"]].kind,
            start=chosen.get("start", 0),
          )
        )
    return ",".join(texts)

  def architecture(self, choices: Mapping[str, Any], name: str = "mnasnet_a1", **model: Any) -> Architecture:
    """Builds the network of choices.

    Args:
      choices: a value for every key of `options`.
      name: the network whose stem, last 1x1 convolution and head it has.
      **model: further fields of config.model.

    Raises:
      ArchitectureError: for fields that do not fit.
    """
    return fields.architecture(name, **{**model, "blocks": self.blocks(choices)})

  def extreme(self, largest: bool) -> Choices:
    """Returns the choices of the largest or the smallest network."""
    order: dict[Any, float] = {name: i for i, name in enumerate((*OPS, *reversed(SKIPS)))}

    def size(value: Any) -> float:
      return order[value] if value in order else value

    pick = max if largest else min
    return self.canonical({name: pick(values, key=size) for name, values in self.options.items()})

  def covering(self) -> Iterator[Choices]:
    """Yields choices whose networks have every kind of block: a latency table of them interpolates those of all others.

    They are each combination of operation, kernel, squeeze-excite and skip, the same in all stages, at the most and at the
    fewest channels.
    """
    options = self.options
    kinds = {name: list(dict.fromkeys(v for stage in self.stages for v in stage.options.get(name, ()))) for name in KINDS}
    kinds = {name: values for name, values in kinds.items() if values}
    for pick in (max, min):
      for values in itertools.product(*kinds.values()):
        chosen = dict(zip(kinds, values, strict=True))
        found = {}
        for name, known in options.items():
          kind = name.partition(".")[2]
          wanted = max(known) if kind == "layers" else pick(known) if kind == "filters" else chosen[kind]
          found[name] = wanted if wanted in known else known[0]
        yield self.canonical(found)

  def check_nested(self) -> None:
    """Checks that every network is inside of the largest one, as a supernet needs.

    Raises:
      UsageError: naming the stage and the choice for which it is not.
    """
    before: set[int] = set()
    for i, stage in enumerate(self.stages, 1):
      if "depthwise" in stage.ops and len(stage.ops) > 1:
        raise UsageError(f"invalid ops={stage.ops!r} of stage {i} in a supernet; expected no 'depthwise', or that alone")
      if len({OPS[op].kind for op in stage.ops}) > 1:
        raise UsageError(f"invalid ops={stage.ops!r} of stage {i} in a supernet; expected operations of one kind")
      for field, sizes in (("kernels", stage.kernels), ("starts", stage.starts or ())):
        if 0 in sizes and len(sizes) > 1:
          raise UsageError(
            f"invalid {field}={sizes!r} of stage {i} in a supernet; expected no 0, or that alone: a layer without the "
            "convolution is not inside of one with it"
          )
      if len(stage.skips) > 1 or (stage.skips == ("none",) and len(stage.layers) > 1):
        raise UsageError(f"invalid skips={stage.skips!r} of stage {i} in a supernet; expected ('identity',)")
      filters = set(stage.filters)
      if stage.stride == 1 and stage.skips == ("identity",) and before & filters and len(before | filters) > 1:
        raise UsageError(
          f"invalid filters={stage.filters!r} of stage {i} in a supernet, some of which the stage before it has too; expected "
          "all others, or a stride of 2: its first layer would add its input in some networks alone"
        )
      before = filters

  @property
  def digest(self) -> str:
    """Identity of the space: 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]

  def to_dict(self) -> dict[str, Any]:
    """Returns the space as JSON has it."""
    found = json.loads(json.dumps(dataclasses.asdict(self)))
    # what files of earlier versions do not have leaves the identity of a space alone
    stages = [{name: value for name, value in stage.items() if (name, value) != ("starts", None)} for stage in found["stages"]]
    return {**found, "stages": stages}

  def write(self, file: PathLike) -> None:
    """Writes the space as a JSON file."""
    write_atomically(pathlib.Path(expanded(file)), json.dumps(self.to_dict(), indent=2) + "\n")

  @classmethod
  def from_dict(cls, content: Mapping[str, Any], source: str = "space") -> "SearchSpace":
    """Builds a space from what `to_dict` returns.

    Args:
      content: the object.
      source: name of its file, for messages.

    Raises:
      UsageError: for content that is no search space.
    """
    try:
      stages: list[dict[str, Any]] = [
        {name: tuple(value) if isinstance(value, list) else value for name, value in stage.items()}
        for stage in content["stages"]
      ]
      return cls(**{**content, "stages": tuple(Stage(**stage) for stage in stages)})
    except (TypeError, KeyError, AttributeError, ValueError) as error:
      reason = error if isinstance(error, UsageError) else "SearchSpace.write makes such files"
      raise UsageError(f"{source} is no search space: {reason}") from None

  @property
  def text(self) -> str:
    """The space on one line, as config.supernet.space has it."""
    return json.dumps(self.to_dict(), separators=(",", ":"))

  @classmethod
  def from_text(cls, text: str) -> "SearchSpace":
    """Builds a space from its `text`; raises UsageError as `from_dict`."""
    try:
      content = json.loads(text)
    except ValueError as error:
      raise UsageError(f"invalid space={text[:60]!r}, which is no JSON ({error})") from None
    return cls.from_dict(content, "the text")

  @classmethod
  def read(cls, file: PathLike) -> "SearchSpace":
    """Reads a space from a JSON file; raises UsageError as `from_dict`, and where there is no file."""
    path = pathlib.Path(expanded(file))
    if not path.is_file():
      raise UsageError(f"no file {str(path)!r}; SearchSpace.write makes one")
    return cls.from_dict(read_json(path), repr(str(path)))


def mnasnet_space() -> SearchSpace:
  """Returns MnasNet's space: seven stages around those of MobileNetV2."""
  stages = []
  for filters, layers, stride in V2_STAGES:
    widths = dict.fromkeys(make_divisible(factor * filters) for factor in FILTER_FACTORS)
    depths = dict.fromkeys(max(1, layers + change) for change in LAYER_CHANGES)
    stages.append(Stage(filters=tuple(widths), layers=tuple(depths), stride=stride))
  return SearchSpace(stages=tuple(stages))


# by name on the command line
SPACES = {"mnasnet": mnasnet_space}


def get_space(space: "SearchSpace | PathLike") -> SearchSpace:
  """Returns a search space: `space` itself, one of SPACES by name, that of a file, or that of the text of one.

  Raises:
    UsageError: if there is no such name or file, or the file is no search space.
  """
  if isinstance(space, SearchSpace):
    return space
  if str(space) in SPACES:
    return SPACES[str(space)]()
  if str(space).startswith("{"):
    return SearchSpace.from_text(str(space))
  if not pathlib.Path(expanded(space)).is_file():
    raise UsageError(f"invalid space={str(space)!r}; expected {' or '.join(SPACES)}, or a file that SearchSpace.write has made")
  return SearchSpace.read(space)
