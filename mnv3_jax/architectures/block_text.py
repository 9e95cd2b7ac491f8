"""Blocks as text, the value of config.model.blocks: `k3_x6_o24_s2_re_se0.25,k3_x6_o24_s1_re_se0.25`.

Parts of a block, in this order:

  k3       kernel
  x6       expansion as a factor of the block's input, or e96, its channels; without either there is no expansion
  o24      output channels
  s2       stride
  re       activation: re, r6, hs or sw (ReLU, ReLU6, h-swish, swish)
  se0.25   squeeze-excite as in V3, a share of the expansion; or si0.25 as in MnasNet, a share of the input; "" for none
  noskip   the input is not added, where it could be
"""

import re
from collections.abc import Iterable

from mnv3_jax.architectures.spec import Block, SqueezeExcite
from mnv3_jax.architectures.validation import ArchitectureError

ACTIVATIONS = {"re": "relu", "r6": "relu6", "hs": "hard_swish", "sw": "swish"}
SQUEEZES = {
  "se": SqueezeExcite(),
  "si": SqueezeExcite(of="input", divisor=1, gate="sigmoid"),
}
BLOCK = re.compile(
  r"k(?P<kernel>\d{1,3})(_x(?P<factor>\d{1,3})|_e(?P<expand>\d{1,9}))?_o(?P<out>\d{1,9})_s(?P<stride>\d)"
  r"_(?P<activation>re|r6|hs|sw)(_(?P<squeeze>se|si)(?P<ratio>\d{1,3}(\.\d{1,6})?))?(?P<noskip>_noskip)?",
  re.ASCII,
)
EXAMPLE = "k3_x6_o24_s2_re_se0.25"


def block_text(
  *, kernel: int, factor: int, out: int, stride: int, activation: str, squeeze: str = "", ratio: float = 0.0, skip: bool = True
) -> str:
  """Formats a block.

  Args:
    kernel: depthwise kernel size.
    factor: expansion over input channels; 1 for no expansion.
    out: output channels.
    stride: 1 or 2.
    activation: a value of ACTIVATIONS.
    squeeze: a key of SQUEEZES.
    ratio: of squeeze-excite; 0 for none.
    skip: whether the input is added where stride and channels allow it.
  """
  short = next(key for key, name in ACTIVATIONS.items() if name == activation)
  parts = [f"k{kernel}", f"x{factor}" if factor != 1 else "", f"o{out}", f"s{stride}", short]
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
    if not match:
      raise ArchitectureError(f"{name}: invalid blocks={text!r}; expected blocks such as {EXAMPLE}, got {word!r}")
    part = match.groupdict()
    expand = int(part["expand"]) if part["expand"] else channels * int(part["factor"] or 1)
    se = None
    if part["squeeze"]:
      of = SQUEEZES[part["squeeze"]]
      se = SqueezeExcite(ratio=float(part["ratio"]), of=of.of, divisor=of.divisor, gate=of.gate)
    found.append(
      Block(
        kernel=int(part["kernel"]),
        expand=expand,
        out=int(part["out"]),
        stride=int(part["stride"]),
        activation=ACTIVATIONS[part["activation"]],
        se=se,
        residual=not part["noskip"],
      )
    )
    channels = int(part["out"])
  return tuple(found)


def _words(text: str) -> Iterable[str]:
  return (word.strip() for word in text.split(","))
