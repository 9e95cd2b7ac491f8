"""Initial variables of a run, and rows with a lower learning rate or none."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from conftest import tiny_architecture
from tiny_run import tiny_config, tiny_job

from mnv3_jax.architectures import fields, rows
from mnv3_jax.architectures.spec import ArchitectureError
from mnv3_jax.config import base, check
from mnv3_jax.errors import UsageError
from mnv3_jax.models.classifier import Classifier
from mnv3_jax.models.initialize import initialize
from mnv3_jax.models.layers import Compute
from mnv3_jax.models.network import network
from mnv3_jax.tasks import job as jobs
from mnv3_jax.tasks.classification import Classification
from mnv3_jax.training import messages, parallel, start, state as states, trained
from mnv3_jax.training.optimizer import optimizer
from mnv3_jax.training.run_schedule import RunSchedule
from mnv3_jax.training.step import gradient_of, train_step

TIMM = {"width": 0.35, "width_rule": "timm", "padding": "symmetric", "bn_epsilon": 1e-5, "dropout": 0.1}
VIEW = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "crop": 0.9, "interpolation": "bicubic"}


def config_of(classes=(), **model):
  config = base()
  config.model.update({"name": "mobilenetv3_small", **model})
  config.data.classes = classes
  config.train.batch_size = 16
  return config


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  """Import directory of V3-Small 0.35 as timm builds it, with 10 classes, and its variables."""
  out = tmp_path_factory.mktemp("source") / "imported"
  config = config_of(**TIMM)
  config.data.update(VIEW)
  config.optim.update({"name": "none", "ema": 0.0})
  variables = initialize(jobs.from_config(config).model, 5)
  trained.save(out, config, variables, {"model": "mobilenetv3_small"})
  return out, variables


def begun(config, source, workdir):
  """Returns (config, variables, messages) of a run initialized from `source`."""
  config.train.init = str(source)
  start.inherit_settings(config, workdir)
  job, said = jobs.from_config(config), []
  return config, start.initial_variables(config, job, initialize(job.model, 0), said.append), said


def test_a_new_head_on_the_same_network(source, tmp_path):
  out, old = source
  config, new, said = begun(config_of(("Bag", "Coat"), resolution=32), out, tmp_path / "run")
  assert {k: config.model[k] for k in TIMM} == TIMM and config.model.resolution == 32 and config.model.num_classes is None
  assert {k: config.data[k] for k in VIEW} == VIEW
  jax.tree.map(np.testing.assert_array_equal, new["params"]["backbone"], old["params"]["backbone"])
  jax.tree.map(np.testing.assert_array_equal, new["batch_stats"], old["batch_stats"])
  jax.tree.map(np.testing.assert_array_equal, new["params"]["hidden"], old["params"]["hidden"])
  assert new["params"]["logits"]["kernel"].shape == (1024, 2)
  assert said == [f"initialized from {out} (raw weights of step 0), with a new head of 2 classes"]


@pytest.mark.slow
def test_the_head_goes_along_with_its_classes_only(source, tmp_path):
  out, old = source
  _, same, said = begun(config_of(), out, tmp_path / "run")
  np.testing.assert_array_equal(same["params"]["logits"]["kernel"], old["params"]["logits"]["kernel"])
  assert "with its head" in said[0]
  # as many classes, but in another order
  classes = tuple(reversed(jobs.from_config(config_of()).dataset.classes))
  _, other, said = begun(config_of(classes), out, tmp_path / "run")
  assert (other["params"]["logits"]["kernel"] != old["params"]["logits"]["kernel"]).any() and "a new head of 10" in said[0]


def test_what_the_config_says_stays(source, tmp_path):
  config, _, _ = begun(config_of(dropout=0.5, bn_momentum=0.9, padding="same"), source[0], tmp_path / "run")
  assert (config.model.dropout, config.model.bn_momentum, config.model.padding) == (0.5, 0.9, "same")


@pytest.mark.parametrize(("theirs", "padding"), [({}, "same"), ({"padding": "symmetric"}, "symmetric")])
def test_weights_keep_their_padding_under_another_convention(theirs, padding, tmp_path):
  out, config = tmp_path / "imported", config_of(width=0.35, **theirs)
  config.optim.update({"name": "none", "ema": 0.0})
  trained.save(out, config, initialize(jobs.from_config(config).model, 5), {"model": "mobilenetv3_small"})
  detector = config_of(head="ssdlite", head_convention="torchvision", resolution=96)
  detector.train.init = str(out)
  start.inherit_settings(detector, tmp_path / "run")
  assert fields.architecture(**detector.model).padding == padding


def test_another_network_is_refused(source, tmp_path):
  config = config_of()
  config.model.name = "mobilenetv3_large"
  with pytest.raises(UsageError, match=r"name='mobilenetv3_large'; expected 'mobilenetv3_small', the network of init="):
    begun(config, source[0], tmp_path / "run")
  with pytest.raises(UsageError, match=r"tensors differ, first .*\['backbone'\].* here and .* there"):
    begun(config_of(width=0.5), source[0], tmp_path / "run")
  with pytest.raises(UsageError, match="no directory"):
    begun(config_of(), tmp_path / "nowhere", tmp_path / "run")


def test_a_run_that_was_begun_does_not_need_the_source_any_more(source, tmp_path):
  import json

  config, _, _ = begun(config_of(), source[0], tmp_path / "run")
  (tmp_path / "run").mkdir()
  config.train.init = str(tmp_path / "gone")
  (tmp_path / "run" / "config.json").write_text(json.dumps(config.to_dict()))
  again = config_of()
  again.train.init = str(tmp_path / "gone")
  assert start.inherit_settings(again, tmp_path / "run") is None and again.to_dict() == config.to_dict()


def test_save_writes_all_or_nothing(source, tmp_path):
  out, _ = source
  run = trained.load(out)
  before = sorted(p.name for p in out.parent.iterdir())
  with pytest.raises(UsageError, match="exists already"):
    trained.save(out, run.config, run.variables, {})
  broken = dict(run.variables)
  broken["params"] = {**broken["params"], "odd": object()}
  with pytest.raises(Exception, match=r"object|odd"):
    trained.save(out.parent / "other", run.config, broken, {})
  assert sorted(p.name for p in out.parent.iterdir()) == before


def test_rows_by_name_and_pattern():
  a = tiny_architecture()
  assert rows.names(a) == ["stem", "block_01", "block_02", "block_03", "features", "hidden", "logits"]
  assert set(rows.factors(a, "").values()) == {1.0}
  found = rows.factors(a, "backbone=0.1, block_0[12]=0.5,stem=0")
  assert found == dict(zip(rows.names(a), [0, 0.5, 0.5, 0.1, 0.1, 1, 1], strict=True))
  for text, words in (
    ("block_1=0", "did you mean 'block_"),
    ("stem", "a factor"),
    ("stem=x", "a factor"),
    ("stem=-1", "a factor"),
    ("stem=inf", "a factor"),
    ("stem=nan", "a factor"),
    ("*=0", "freezes every row"),
  ):
    with pytest.raises(ArchitectureError, match=words):
      rows.factors(a, text)


def test_layer_decay_by_row():
  a = fields.architecture("mobilenetv3_small")
  found = rows.factors(a, "", 0.75)
  # stem, eleven blocks and features are thirteen layers before the head
  assert list(found) == ["stem", *(f"block_{i:02d}" for i in range(1, 12)), "features", "hidden", "logits"]
  expected = [0.75**13, 0.75**12, 0.75**11, 0.75**10, 0.75**9, 0.75**8, 0.75**7]
  expected += [0.75**6, 0.75**5, 0.75**4, 0.75**3, 0.75**2, 0.75, 1, 1]
  assert list(found.values()) == pytest.approx(expected, rel=1e-12)
  assert set(rows.factors(a, "", 1.0).values()) == {1.0}
  # a product with the factors by name, 0 of which freezes as before
  both = rows.factors(a, "stem=0,block_1?=2,logits=3", 0.5)
  assert (both["stem"], both["block_09"], both["block_11"], both["hidden"], both["logits"]) == (0, 0.5**4, 2 * 0.5**2, 1, 3)


@pytest.mark.parametrize(("head", "last"), [("lr_aspp", "skip_logits"), ("r_aspp", "logits"), ("ssdlite", "classes_5")])
def test_any_head_is_the_last_layer(head, last):
  a = fields.architecture("mobilenetv3_small", head=head)
  found = rows.factors(a, "", 0.5)
  assert last in found and {found[row] for row in rows.after(a)} == {1.0}
  backbone = [factor for row, factor in found.items() if row not in rows.after(a)]
  assert backbone == [0.5 ** (len(backbone) - i) for i in range(len(backbone))]


def test_factors_are_told_by_runs_of_rows():
  assert rows.factors_text(rows.factors(tiny_architecture(), "stem=0", 0.5)) == (
    "stem 0, block_01 0.0625, block_02 0.125, block_03 0.25, features 0.5, hidden to logits 1"
  )
  assert rows.factors_text(rows.factors(tiny_architecture(), "backbone=0.1")) == "stem to features 0.1, hidden to logits 1"


def test_a_run_tells_factors_that_are_not_1(tmp_path):
  found = []
  for decay in (1.0, 0.5):
    config = tiny_config(**{"optim.layer_decay": decay})
    schedule = RunSchedule.from_config(config, per_epoch=6)
    found.append(messages.announcement(config, tiny_job(config), schedule, tmp_path, step=0, teacher=None))
  (line,) = set(found[1]) - set(found[0])
  assert line == (
    "learning-rate factors: stem 0.0312, block_01 0.0625, block_02 0.125, block_03 0.25, features 0.5, hidden to logits 1"
  )


@pytest.mark.parametrize("name", ["rmsprop", "sgd", "adamw"])
def test_layer_decay_scales_the_updates_of_a_row(name):
  a, config = tiny_architecture(), base()
  config.optim.update({"name": name, "l2": 0.1})
  params = initialize(Classifier(a), 0)["params"]

  def update(factors):
    rule = optimizer(config.optim, lambda step: 0.1, factors)
    return jax.jit(lambda params: rule.update(params, rule.init(params), params)[0])

  factors = rows.factors(a, "block_01=0", 0.5)
  whole, decayed = update(None)(params), update(factors)(params)
  for path, found in jax.tree_util.tree_leaves_with_path(decayed):
    expected = whole
    for key in path:
      expected = expected[key.key]
    # powers of two: exact
    np.testing.assert_array_equal(found, factors[rows.row_of([key.key for key in path])] * np.asarray(expected))
  # without decay the program is the one without factors
  off = update(rows.factors(a, "", 1.0)).lower(params).as_text()
  assert off == update(None).lower(params).as_text() != update(factors).lower(params).as_text()


@pytest.mark.parametrize("decay", [0.0, -0.1, 1.1, float("nan"), float("inf")])
def test_a_layer_decay_that_is_none_is_refused(decay):
  config = base()
  config.optim.layer_decay = decay
  with pytest.raises(UsageError, match=rf"^invalid config\.optim\.layer_decay={decay!r}; expected above 0 and at most 1$"):
    check(config)


def after_steps(text, n=3, layer_decay=1.0):
  """Returns (variables before, after) n steps of the tiny network with learning rates by row."""
  a = tiny_architecture()
  factors = rows.factors(a, text, layer_decay)
  model = Classifier(a, Compute(frozen=tuple(row for row, f in factors.items() if f == 0)))
  config = base()
  config.optim.update({"l2": 0.1})
  rule = optimizer(config.optim, lambda step: 0.1, factors)
  devices = parallel.ShardMap()
  update = devices.compile(
    train_step(gradient_of(model, Classification()), Classification(), rule, ema=0.0, seed=0, axis=parallel.AXIS),
    outputs=2,
    donate=False,
  )
  rng = np.random.default_rng(0)
  batch = {
    "image": rng.uniform(-1, 1, (8, 16, 16, 3)).astype(np.float32),
    "label": rng.integers(0, 10, 8).astype(np.int32),
  }
  before = initialize(model, 0)
  state = devices.replicate(jax.device_get(states.create(before, rule, False)))
  for _ in range(n):
    state, _ = update(state, devices.shard(batch))
  return before, devices.fetch(state).variables


def moved(before, after, *path):
  for key in path:
    before, after = before[key], after[key]
  leaves = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
  return max(float(np.abs(a - b).max()) for a, b in leaves)


@pytest.mark.slow
def test_frozen_rows_keep_parameters_and_statistics():
  before, after = after_steps("stem=0,block_02=0")
  for row in ("stem", "block_02"):
    assert moved(before, after, "params", "backbone", row) == moved(before, after, "batch_stats", "backbone", row) == 0
  for row in ("block_01", "block_03", "features"):
    assert moved(before, after, "params", "backbone", row) > 0 and moved(before, after, "batch_stats", "backbone", row) > 0
  assert moved(before, after, "params", "logits") > 0


@pytest.mark.slow
def test_a_factor_scales_the_first_step():
  whole, tenth = (after_steps(text, n=1) for text in ("", "hidden=0.1"))
  assert moved(*tenth, "params", "hidden") == pytest.approx(0.1 * moved(*whole, "params", "hidden"), rel=1e-3)
  assert moved(*tenth, "params", "logits") == pytest.approx(moved(*whole, "params", "logits"), rel=1e-5)


@pytest.mark.slow
def test_layer_decay_scales_the_first_step():
  whole, decayed = (after_steps("block_02=0", n=1, layer_decay=decay) for decay in (1.0, 0.5))
  for row, factor in {"stem": 0.5**5, "block_01": 0.5**4, "block_02": 0, "block_03": 0.5**2, "features": 0.5}.items():
    ours, theirs = (moved(*each, "params", "backbone", row) for each in (decayed, whole))
    assert ours == pytest.approx(factor * theirs, rel=1e-3)
  for row in ("hidden", "logits"):
    assert moved(*decayed, "params", row) == moved(*whole, "params", row) > 0


@pytest.mark.slow
@pytest.mark.parametrize("convention", ["tensorflow", "torchvision"])
def test_a_detector_for_other_classes_keeps_all_but_its_logits(convention, monkeypatch):
  def net(**changes):
    return network(fields.architecture("mobilenetv3_small", head="ssdlite", width=0.35, resolution=64, **changes))

  theirs, ours = net(num_classes=5), net(num_classes=2, head_convention=convention)
  old, seeded = initialize(theirs, 1), initialize(ours, 0)
  source = SimpleNamespace(job=SimpleNamespace(architecture=theirs.net), variables=old, classes=("a",), weights="raw", step=7)
  monkeypatch.setattr(trained, "load", lambda directory: source)
  config, said = config_of(), []
  config.train.init = "there"
  job = SimpleNamespace(architecture=ours.net, dataset=SimpleNamespace(classes=("b", "c")))
  new = start.initial_variables(config, job, seeded, said.append)
  jax.tree.map(np.testing.assert_array_equal, new["params"]["backbone"], old["params"]["backbone"])
  for row in ("extra_0", "boxes_0", "classes_3"):
    for name, leaf in jax.tree_util.tree_leaves_with_path(new["params"][row]):
      kept, first = (tree["params"][row] for tree in (old, seeded))
      for key in name:
        kept, first = kept[key.key], first[key.key]
      # other anchors have another head
      is_new = convention == "torchvision" or name[0].key == "logits"
      np.testing.assert_array_equal(leaf, first if is_new else kept)
  ending = "with a new head of 2 classes" if convention == "tensorflow" else "new head: ssdlite of the torchvision convention"
  assert said[0].endswith(ending)
