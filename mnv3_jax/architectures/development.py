"""From MnasNet-A1 to MobileNetV3-Large, one change at a time (sections 4 and 5 of the paper, its Figure 9)."""

from mnv3_jax.architectures import edits, zoo


def steps():
  """The chain of networks.

  The paper names the changes (last stage and stem in section 5.1, h-swish in 5.2, squeeze-excite in 5.3, NetAdapt's widths in
  4.2) and draws their effect without numbers or labels: the order is ours, those first that make the rows comparable.

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
