"""NetAdapt's proposals: networks with fewer channels in one expansion, or in one bottleneck."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator

from mnv3_jax.architectures import channels, edits
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.architectures.validation import ArchitectureError
from mnv3_jax.errors import UsageError

# milliseconds of a network
Latency = Callable[[Architecture], float]
# channels are multiples of it, as everywhere in the paper
DIVISOR = 8


@dataclasses.dataclass(frozen=True)
class Proposal:
  """A smaller network.

  Attributes:
    name: what is cut, "block_05_expand_224" or "block_04_out_32": the latter in every block of the stream that block_04 begins.
    architecture: the network.
    latency_ms: its predicted latency.
  """

  name: str
  architecture: Architecture
  latency_ms: float


def proposals(architecture: Architecture, latency: Latency, *, at_most: float, at_least: float = 0.0) -> list[Proposal]:
  """Returns every way of cutting one expansion or one bottleneck to a latency, each with the largest width that meets it.

  As in section 4.2 of the paper a bottleneck is cut in all blocks that share it, so that residual connections stay: all blocks
  that add to the same stream, with the block that begins it. Left open there, and decided here: expansions stay wider than the
  block's input; the stem, and a bottleneck that is added to its output, are not cut, nor are the last 1x1 convolution and the
  head; a squeeze follows its expansion; widths that would remove an expansion, or add or remove a residual connection, are
  passed over, and so are those that the latency table cannot predict.

  Args:
    architecture: the present network.
    latency: predicts milliseconds; raises UsageError where it cannot.
    at_most: milliseconds that a proposal may have.
    at_least: a proposal below it is dropped, so that a search does not pass its target.

  Returns:
    at most one proposal for each expansion and each bottleneck, in the order of the data.
  """
  found = []
  for options in _options(architecture):
    proposal = next((p for p in _predicted(options, latency) if p.latency_ms <= at_most), None)
    if proposal is not None and proposal.latency_ms >= at_least:
      found.append(proposal)
  return found


def _predicted(options: Iterable[tuple[str, Architecture]], latency: Latency) -> Iterator[Proposal]:
  for name, architecture in options:
    try:
      ms = latency(architecture)
    except UsageError:
      continue
    yield Proposal(name, architecture, ms)


def _options(architecture: Architecture) -> Iterator[Iterator[tuple[str, Architecture]]]:
  """Yields (name, network) by width, from the largest to the smallest, for each expansion and each bottleneck."""
  rows = {name: (inputs, block) for name, inputs, block in architecture.rows()}
  for name, (inputs, block) in rows.items():
    if block.expands(inputs):
      widths = range(_below(block.expand), inputs, -DIVISOR)
      yield _edited(architecture, f"{name}_expand", widths, {name: (None, block.out)})
  for group, blocks in channels.streams(architecture).items():
    if group != "stem":
      widths = range(_below(rows[group][1].out), 0, -DIVISOR)
      yield _edited(architecture, f"{group}_out", widths, {name: (rows[name][1].expand, None) for name in blocks})


def _below(width: int) -> int:
  """Returns the largest multiple of DIVISOR below a width."""
  return (width - 1) // DIVISOR * DIVISOR


def _edited(
  architecture: Architecture, name: str, widths: Iterable[int], sizes: dict[str, tuple[int | None, int | None]]
) -> Iterator[tuple[str, Architecture]]:
  """Yields the network with each width in place of the sizes that are None."""
  for n in widths:
    given = {block: (n if expand is None else expand, n if out is None else out) for block, (expand, out) in sizes.items()}
    try:
      yield f"{name}_{n}", edits.with_channels(architecture, given)
    except ArchitectureError:
      continue
