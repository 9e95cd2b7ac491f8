"""Blocks as text, the value of config.model.blocks: `k3_x6_o24_s2_re_se0.25,k3_x6_o24_s1_re_se0.25`.

Parts of a block, in this order:

  k3       kernel of the depthwise convolution of an inverted bottleneck; or u5k3, a universal one with a 5x5 depthwise
           convolution before the expansion and a 3x3 one after it, each 0 for none; or f3, a fused one with a 3x3 expansion
  x6       expansion as a factor of the block's input, or e96, its channels; without either an inverted bottleneck has no
           expansion, and the other two have one of as many channels as the input
  o24      output channels
  s2       stride
  re       activation: re, r6, hs or sw (ReLU, ReLU6, h-swish, swish)
  se0.25   squeeze-excite as in V3, a share of the expansion; or si0.25 as in MnasNet, a share of the input; "" for none
  act      the activation follows the projection too, as in MobileNetV1
  noskip   the input is not added, where it could be
"""

import re
from collections.abc import Iterable
from typing import Any

from mnv3_jax.architectures.spec import Block, FusedBlock, SqueezeExcite, UniversalBlock
from mnv3_jax.architectures.validation import ArchitectureError

ACTIVATIONS = {"re": "relu", "r6": "relu6", "hs": "hard_swish", "sw": "swish"}
SQUEEZES = {
  "se": SqueezeExcite(),
  "si": SqueezeExcite(of="input", divisor=1, gate="sigmoid"),
}
# classes of blocks by the first letter of their text
KINDS: dict[str, type[Block]] = {"k": Block, "u": UniversalBlock, "f": FusedBlock}
BLOCK = re.compile(
  r"(u(?P<start>\d{1,3}))?(?P<kind>[kf])(?P<kernel>\d{1,3})(_x(?P<factor>\d{1,3})|_e(?P<expand>\d{1,9}))?_o(?P<out>\d{1,9})"
  r"_s(?P<stride>\d)_(?P<activation>re|r6|hs|sw)(_(?P<squeeze>se|si)(?P<ratio>\d{1,3}(\.\d{1,6})?))?(?P<act>_act)?"
  r"(?P<noskip>_noskip)?",
  re.ASCII,
)
EXAMPLE = "k3_x6_o24_s2_re_se0.25"


def block_text(
  *,
  kernel: int,
  factor: int,
  out: int,
  stride: int,
  activation: str,
  squeeze: str = "",
  ratio: float = 0.0,
  skip: bool = True,
  kind: str = "k",
  start: int = 0,
) -> str:
  """Formats a block.

  Args:
    kernel: size of the depthwise kernel, or of a fused block's expansion; 0 for none in a universal one.
    factor: expansion over input channels; 1 for no expansion.
    out: output channels.
    stride: 1 or 2.
    activation: a value of ACTIVATIONS.
    squeeze: a key of SQUEEZES.
    ratio: of squeeze-excite; 0 for none.
    skip: whether the input is added where stride and channels allow it.
    kind: a key of KINDS.
    start: size of the depthwise kernel before the expansion of a universal block; 0 for none.
  """
  short = next(key for key, name in ACTIVATIONS.items() if name == activation)
  first = f"u{start}k{kernel}" if kind == "u" else f"{kind}{kernel}"
  parts = [first, f"x{factor}" if factor != 1 else "", f"o{out}", f"s{stride}", short]
  parts += [f"{squeeze}{ratio:g}" if ratio else "", "" if skip else "noskip"]
  return "_".join(filter(None, parts))


def parse_blocks(name: str, text: str, channels: int) -> tuple[Block, ...]:
  """Parses blocks.

  Args:
    name: of the network, for messages.
    text: the blocks, separated by commas.
    channels: input channels of the first one.

  Raises:
    ArchitectureError: for text that describes no blocks. Values are validated with the network.
  """
  found: list[Block] = []
  for word in _words(text):
    match = BLOCK.fullmatch(word)
    # a start belongs to a universal block alone
    if not match or (match["start"] and match["kind"] != "k"):
      raise ArchitectureError(f"{name}: invalid blocks={text!r}; expected blocks such as {EXAMPLE}, got {word!r}")
    part = match.groupdict()
    expand = int(part["expand"]) if part["expand"] else channels * int(part["factor"] or 1)
    se = None
    if part["squeeze"]:
      of = SQUEEZES[part["squeeze"]]
      se = SqueezeExcite(ratio=float(part["ratio"]), of=of.of, divisor=of.divisor, gate=of.gate)
    start: dict[str, Any] = {} if part["start"] is None else {"start": int(part["start"])}
    activation = ACTIVATIONS[part["activation"]]
    found.append(
      KINDS["u" if start else part["kind"]](
        kernel=int(part["kernel"]),
        expand=expand,
        out=int(part["out"]),
        stride=int(part["stride"]),
        activation=activation,
        se=se,
        residual=not part["noskip"],
        project_activation=activation if part["act"] else "linear",
        **start,
      )
    )
    channels = int(part["out"])
  return tuple(found)


def _words(text: str) -> Iterable[str]:
  return (word.strip() for word in text.split(","))
