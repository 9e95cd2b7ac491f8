"""Networks in one call, with random or published weights, or a run's: `create_model("mobilenetv3_small", num_classes=10)`."""

from typing import Literal

import flax.linen as nn

from mnv3_jax.architectures import fields, rows
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.errors import UsageError
from mnv3_jax.models.fake_quantization import is_range
from mnv3_jax.models.feature_maps import FeatureMaps, with_input_channels
from mnv3_jax.models.initialize import initialize
from mnv3_jax.models.layers import Compute
from mnv3_jax.models.network import network
from mnv3_jax.training import trained
from mnv3_jax.training.checkpoints import flatten, in_layers, unflatten
from mnv3_jax.training.named_weights import load_run
from mnv3_jax.types import PathLike, Variables

STEM = "['params']['backbone']['stem']['kernel']"
# fields that can be set on an Architecture too, by Architecture.replace; the others are edits
REPLACED = ("num_classes", "resolution", "padding", "bn_momentum", "bn_epsilon")


def create_model(
  name_or_architecture: str | Architecture,
  *,
  num_classes: int | None = None,
  resolution: int | None = None,
  resolution_width: int | None = None,
  width: float | None = None,
  width_rule: str | None = None,
  h_swish_from: int | None = None,
  activation: str | None = None,
  se_ratio: float | None = None,
  se_of: Literal["expansion", "input"] | None = None,
  se_gate: str | None = None,
  se_divisor: int | None = None,
  expansions: str | None = None,
  channels: str | None = None,
  blocks: str | None = None,
  stem_filters: int | None = None,
  stem_activation: str | None = None,
  last_stage: Literal["efficient", "original"] | None = None,
  output_stride: Literal[8, 16, 32] | None = None,
  halved_tail: Literal["segmentation", "detection"] | None = None,
  atrous: str | None = None,
  head: str | None = None,
  head_hidden: int | None = None,
  head_filters: int | None = None,
  head_pool: str | None = None,
  head_gate: str | None = None,
  head_gate_bias: bool | None = None,
  head_skip: str | None = None,
  head_convention: str | None = None,
  head_class_bias: float | None = None,
  minimalistic: bool | None = None,
  dropout: float | None = None,
  bn_momentum: float | None = None,
  bn_epsilon: float | None = None,
  bn_group: int | None = None,
  padding: Literal["same", "symmetric", "keras_v1"] | None = None,
  dtype: Literal["float32", "bfloat16"] | None = None,
  in_channels: int | None = None,
  features_only: bool = False,
  seed: int = 0,
  weights: PathLike | None = None,
) -> tuple[nn.Module, Variables]:
  """Creates a network and its variables.

  None keeps the value that the network has in the paper. Edits are applied in a fixed order, structure first, width last.

  Args:
    name_or_architecture: one of list_models(), or an Architecture. Of the fields below an Architecture takes num_classes,
      resolution, padding, bn_momentum, bn_epsilon, bn_group, dtype and in_channels; `mnv3_jax.edits` has functions for others.
    num_classes: number of classes (1000; with `weights` theirs); 0 for the features of an image in place of logits.
    resolution: input height and width in pixels (224).
    resolution_width: input width in pixels where it is not the height.
    width: multiplier of the channels (1.0).
    width_rule: rounding of the scaled channels ("paper"); one of widths.RULES.
    h_swish_from: h-swish@N of Table 5: from the first block with N output channels on; 0: ReLU everywhere.
    activation: non-linearity in place of every h-swish.
    se_ratio: squeeze width as a share of `se_of` (0.25); 0 removes squeeze-excite.
    se_of: base of the squeeze width.
    se_gate: gate of squeeze-excite ("hard_sigmoid").
    se_divisor: the squeeze width is rounded to a multiple of it (8); 1: not rounded.
    expansions: expansion sizes by block: "block_02=64,block_03=72".
    channels: expansion/output sizes by block, as a search found them, applied last: "block_02=64/24,block_03=72/24".
    blocks: blocks in place of the network's own, as a search found them: "k3_o16_s1_re,k3_x6_o24_s2_re_se0.25"
      (architectures/block_text.py).
    stem_filters: channels of the first convolution (16).
    stem_activation: non-linearity of the first convolution.
    last_stage: last stage of Figure 5 ("efficient").
    output_stride: input size over the size of the last map, by atrous convolution (32).
    halved_tail: half the channels from stride 32 on: RF2 of Table 7, or the dagger of Table 6.
    atrous: rule for the rates of blocks that lose their stride to `output_stride` ("slim").
    head: "classifier", "lr_aspp", "r_aspp" or "ssdlite".
    head_hidden: channels of a classifier's hidden layer, as the network has them at any width; 0 for none.
    head_filters: F of Table 7 (128; r_aspp: 256).
    head_pool: average pool of the segmentation head ("paper": 49x49).
    head_gate: gate of lr_aspp ("sigmoid").
    head_gate_bias: whether the gate's convolution has a bias (True).
    head_skip: map at stride 8 of lr_aspp ("depthwise").
    head_convention: default boxes, codes, losses and scores of ssdlite ("tensorflow"), and the padding where that is None.
    head_class_bias: start of the bias of ssdlite's logits (0).
    minimalistic: 3x3 kernels, ReLU, no squeeze-excite.
    dropout: rate before the logits (0.2).
    bn_momentum: decay of batch norm's averages (0.99).
    bn_epsilon: batch norm's epsilon (1e-3).
    bn_group: images that share batch-norm statistics in training; 0: all of a device, -1: all of all devices (0).
    padding: "same" as TensorFlow pads, "symmetric" as PyTorch does, "keras_v1" as MobileNet (V1) of Keras does.
    dtype: of convolutions ("float32"); parameters and statistics stay float32.
    in_channels: channels of the input (3). The stem of `weights` is adapted to others: summed for 1, repeated and scaled for
      more.
    features_only: the backbone alone.
    seed: of the random initialization.
    weights: name of published weights, one of list_weights() or "hf://USER/REPOSITORY", which are downloaded the first time; or
      run directory, a run's or an import's. Fields that are None are those of the weights; another num_classes gets new logits,
      and of weights without a classification head every layer that they lack.

  Returns:
    (model, variables). `model.apply(variables, images)` computes logits (b, num_classes) from images (b, h, w, 3) in [-1, 1],
    or (b, h, w, num_classes) with a segmentation head, or SSDOutputs, the codes and logits of every anchor, with ssdlite;
    `model.apply(variables, images, method="features")` computes the feature maps by name, "C1" to "C5" among them. model.net
    is the Architecture: print it to see the paper's table. With features_only, apply computes a tuple of maps instead, of
    which model.strides and model.channels have the strides and channels.

  Raises:
    ArchitectureError: for an unknown name or an invalid value, with the nearest choice.
    UsageError: if `weights` is neither a name nor a run directory, or is of another network; for a field without effect.
  """
  options = dict(locals())
  own = {"name_or_architecture", "in_channels", "features_only", "seed", "weights"}
  given = {name: options[name] for name in options.keys() - own}
  given = {name: value for name, value in given.items() if value is not None}
  run = load_run(weights) if weights is not None else None
  if isinstance(name_or_architecture, Architecture):
    architecture = _replaced(name_or_architecture, given)
  else:
    known = {**(_inherited(name_or_architecture, given, run) if run else {}), **given}
    # a rule that the weights bring along may be without effect
    for name, needed in fields.ONLY_WITH.items():
      if name in given and needed not in known:
        raise UsageError(f"{name}={given[name]!r} has an effect only with {needed}")
    architecture = fields.architecture(name_or_architecture, **known)
  if in_channels is not None:
    architecture = architecture.replace(in_channels=in_channels)
  compute = Compute(dtype=dtype or "float32", bn_group=bn_group or 0)
  model = FeatureMaps(architecture, compute) if features_only else network(architecture, compute)
  variables = initialize(model, seed)
  return model, _loaded(architecture, variables, run, weights) if run else variables


def _replaced(architecture: Architecture, given: dict[str, object]) -> Architecture:
  for name, value in given.items():
    if name not in (*REPLACED, *fields.COMPUTE_FIELDS):
      raise UsageError(
        f"invalid {name}={value!r} with an Architecture; expected an edited one (mnv3_jax.edits), or the name of a network"
      )
  return architecture.replace(**{name: given[name] for name in REPLACED if name in given})


def _inherited(name: str, given: dict[str, object], run: trained.TrainedRun) -> dict[str, object]:
  """Returns the fields of a run's network that another one of as many or other classes takes over."""
  model = run.config.model
  if name != model.name:
    raise UsageError(f"invalid name {name!r}; the weights are those of {model.name!r}")
  without = (*fields.COMPUTE_FIELDS, *(fields.incomplete_head(model) if given.get("num_classes") else ()))
  own = {field: model[field] for field in fields.FIELDS if model[field] is not None and field not in without}
  return {**own, "num_classes": run.job.architecture.num_classes}


def _loaded(architecture: Architecture, seeded: Variables, run: trained.TrainedRun, weights: object) -> Variables:
  """Replaces seeded variables by those of a run; logits for another number of classes, and layers that it lacks, stay.

  Raises:
    UsageError: naming the first tensor that differs.
  """
  # ranges of fake quantization belong to a network that has it
  new, old = ({n: leaf for n, leaf in flatten(tree).items() if not is_range(n)} for tree in (seeded, run.variables))
  # without a head, or without logits
  old = {n: leaf for n, leaf in old.items() if n in new or any(f"['{row}']" in n for row in seeded["params"])}
  if STEM in new and STEM in old and new[STEM].shape[2] != old[STEM].shape[2]:
    old[STEM] = with_input_channels(old[STEM], new[STEM].shape[2])
  differ = [n for n in {**new, **old} if n not in new or n not in old or new[n].shape != old[n].shape]
  fitting = rows.fitting(run.architecture, architecture)
  if fitting is not None:
    # layers whose width depends on the classes, and those that weights without a head lack
    stay = [layer.name for layer in architecture.head_layers() if layer.name not in fitting]
    old = {n: leaf for n, leaf in old.items() if n not in differ or not in_layers(n, stay)}
    differ = [n for n in differ if not in_layers(n, stay)]
  if differ:
    shapes = [str(tree[differ[0]].shape) if differ[0] in tree else "missing" for tree in (new, old)]
    raise UsageError(
      f"invalid weights={str(weights)!r}: they are those of another network; {len(differ)} tensors differ, first {differ[0]}, "
      f"{shapes[0]} here and {shapes[1]} there"
    )
  return unflatten(seeded, {**flatten(seeded), **old})
