"""From MnasNet-A1 to MobileNetV3-Large, one change at a time (sections 4 and 5 of the paper, its Figure 9)."""

from mnv3_jax.architectures import edits, zoo


def steps():
  """The chain of networks.

  The paper names the changes and draws their effect without numbers or labels; the order here is that of its sections: last
  stage (5.1), stem (5.1), squeeze-excite (5.3), NetAdapt's widths (4.2), h-swish (5.2).

  Returns:
    A list of (what was changed, Architecture); the last one has the rows of zoo.mobilenetv3_large().
  """
  large = zoo.mobilenetv3_large()
  network = zoo.mnasnet_a1()
  chain = [("MnasNet-A1", network)]

  def step(what, changed):
    nonlocal network
    network = changed
    chain.append((what, changed))

  step("efficient last stage", edits.with_last_stage(network, "efficient"))
  step("stem of 16 filters", edits.with_stem(network, 16))
  step(
    "squeeze-excite: a quarter of the expansion",
    edits.with_se(network, ratio=0.25, of="expansion", divisor=8, gate="hard_sigmoid"),
  )
  step("NetAdapt's expansions", edits.with_expansions(network, {name: b.expand for name, _, b in large.rows()}))
  step(
    "h-swish from 80 channels on, and in the stem", edits.with_stem(edits.h_swish_from(network, 80), activation="hard_swish")
  )
  return chain
