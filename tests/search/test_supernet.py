"""Supernets: what a step computes, that training goes on where it was killed, and the networks that are found in one."""

import dataclasses
import itertools
import json
import signal
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest
from conftest import ended, mnv3
from tiny_run import last_state, tiny_config

from mnv3_jax.architectures import units
from mnv3_jax.config_files import load_config
from mnv3_jax.errors import UsageError
from mnv3_jax.latency.latency_table import VERSION
from mnv3_jax.models.initialize import initialize
from mnv3_jax.models.network import network
from mnv3_jax.runs.run import Run
from mnv3_jax.search import search_supernet, train_supernet
from mnv3_jax.search.shared_weights import SharedWeights
from mnv3_jax.subnetworks.space import SearchSpace, Stage, get_space, mnasnet_space
from mnv3_jax.subnetworks.space_config import with_blocks
from mnv3_jax.subnetworks.subnetwork import masked, masks, outside, truncated
from mnv3_jax.tasks import job as jobs
from mnv3_jax.tasks.sandwich import Sandwich
from mnv3_jax.training import parallel
from mnv3_jax.training.evaluation import Evaluator
from mnv3_jax.training.reestimation import BatchStatistics
from mnv3_jax.training.trained import load

STAGE = {"filters": (8, 16), "layers": (1, 2), "stride": 2, "ops": ("mbconv3",), "skips": ("identity",)}
SPACE = SearchSpace(stages=(Stage(**STAGE), Stage(**{**STAGE, "kernels": (3,)})), se_of="expansion")
FIELDS = {"model.name": "mobilenetv3_small", "model.num_classes": 10, "model.dropout": 0.0, "data.train_split": "train[:100]"}


def supernet_config(**changes):
  config = tiny_config(**FIELDS, **changes)
  config = with_blocks(config, SPACE.blocks(SPACE.extreme(largest=True)))
  config.supernet.space = SPACE.text
  return config


@pytest.mark.slow
def test_the_gradient_is_the_mean_of_those_of_the_networks_alone():
  """Of the largest by the labels, of the others by its outputs: each in a network of its own."""
  job = jobs.from_config(supernet_config())
  inner, task = job.inner, job.task
  variables = initialize(job.model, 0)
  batch = {name: np.asarray(x) for name, x in next(iter(job.dataset.train_batches(0))).items() if name != "broken"}
  drawn = inner.draw(5)
  rng = np.random.default_rng((0, 5))
  chosen = [SPACE.extreme(largest=True), SPACE.extreme(largest=False), SPACE.random(rng), SPACE.random(rng)]
  compute = jax.jit(inner.gradient_of(job.model, task))
  gradient, statistics, sums = compute(variables["params"], variables["batch_stats"], batch, jax.random.key(0), drawn)

  def own(subnetwork, teacher):
    model = network(subnetwork.architecture)

    @jax.jit
    def both(variables):
      def loss(params):
        outputs, changed = model.apply({**variables, "params": params}, batch["image"], train=True, mutable=["batch_stats"])
        by_labels = optax.softmax_cross_entropy_with_integer_labels(outputs, batch["label"]).mean()
        value = by_labels if teacher is None else optax.softmax_cross_entropy(outputs, jax.nn.softmax(teacher)).mean()
        return value, (outputs, changed["batch_stats"])

      return jax.value_and_grad(loss, has_aux=True)(variables["params"])

    (value, (outputs, changed)), found = both(truncated(variables, subnetwork))
    return value, outputs, changed, found

  total, teacher = jax.tree.map(lambda x: np.zeros(x.shape), variables["params"]), None
  for choices in chosen:
    subnetwork = inner.subnetwork(choices)
    value, outputs, changed, found = own(subnetwork, teacher)
    if teacher is None:
      teacher = outputs
      jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), changed, statistics)
      assert float(sums["objective"]) == pytest.approx(16 * float(value), rel=1e-4) and sums["count"] == 16
    mask = masks(subnetwork, variables["params"])
    for (path, m), whole in zip(jax.tree_util.tree_leaves_with_path(mask), jax.tree.leaves(total), strict=True):
      node, names = found, [key.key for key in path]
      if not m.any():
        continue
      for name in _own_names(names, subnetwork):
        node = node[name]
      whole[m] += np.asarray(node).ravel() / len(chosen)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5), total, gradient)


def _own_names(names, subnetwork):
  """Names of a tensor of the largest network in one with fewer blocks."""
  return [f"block_{subnetwork.blocks.index(n) + 1:02d}" if n in subnetwork.blocks else n for n in names]


def test_draws_are_functions_of_seed_and_step():
  one, other = (jobs.from_config(supernet_config(**{"train.seed": seed})).inner for seed in (0, 1))
  np.testing.assert_array_equal(one.draw(3), one.draw(3))
  assert (one.draw(3)[2:] != one.draw(4)[2:]).any() or (one.draw(3)[2:] != one.draw(5)[2:]).any()
  assert any((one.draw(n)[2:] != other.draw(n)[2:]).any() for n in range(5))
  np.testing.assert_array_equal(one.draw(3)[:2], other.draw(9)[:2])
  assert len(one.draw(0)) == 4 and len(dataclasses.replace(one, random=0).draw(0)) == 2


def test_every_network_of_a_nested_space_is_inside():
  inner = Sandwich.from_config(supernet_config(), 10)
  found = set()
  for values in itertools.product(*SPACE.options.values()):
    choices = SPACE.canonical(dict(zip(SPACE.options, values, strict=True)))
    found.add(tuple(inner.codes.encode(inner.subnetwork(choices)).tolist()))
  # kernel, squeeze-excite, filters and layers of the first stage, all but the kernel of the second
  assert len(found) == 2**7


@pytest.mark.parametrize(
  ("stage", "message"),
  [
    ({"ops": ("depthwise", "mbconv3")}, "invalid ops=('depthwise', 'mbconv3') of stage 2"),
    ({"skips": ("identity", "none")}, "invalid skips=('identity', 'none') of stage 2"),
    ({"skips": ("none",)}, "invalid skips=('none',) of stage 2"),
    ({"stride": 1}, "invalid filters=(8, 16) of stage 2"),
    ({"stride": 1, "filters": (16,)}, "invalid filters=(16,) of stage 2"),
  ],
)
def test_spaces_that_are_not_nested(stage, message, tmp_path):
  space = SearchSpace(stages=(Stage(**STAGE), Stage(**{**STAGE, **stage})))
  with pytest.raises(UsageError, match="in a supernet") as error:
    train_supernet("fashion_mnist:mobilenetv3_small", tmp_path / "run", space=space)
  assert str(error.value).startswith(message) and not list(tmp_path.iterdir())
  SearchSpace(stages=(Stage(**STAGE), Stage(**{**STAGE, "stride": 1, "filters": (24, 32)}))).check_nested()
  SearchSpace(stages=(Stage(**{**STAGE, "filters": (8,)}), Stage(**{**STAGE, "stride": 1, "filters": (8,)}))).check_nested()


def test_a_space_as_text():
  assert get_space(SPACE.text) == SPACE and "\n" not in SPACE.text
  with pytest.raises(UsageError, match="which is no JSON"):
    get_space("{stages")
  with pytest.raises(UsageError, match=r"invalid ops=.* of stage 1 in a supernet"):
    mnasnet_space().check_nested()


def test_another_network_than_the_largest_is_refused():
  config = supernet_config()
  config.model.blocks = SPACE.blocks(SPACE.extreme(largest=False))
  with pytest.raises(UsageError, match=r"expected .*, its largest network"):
    jobs.from_config(config)


def test_batch_statistics_are_those_of_the_batches():
  config = supernet_config()
  job = jobs.from_config(config)
  variables, keep = initialize(job.model, 0), job.architecture.bn_momentum
  batches = [next(iter(job.dataset.train_batches(n))) for n in (0, 3)]
  found = BatchStatistics(job.model, parallel.ShardMap(), keep)(variables, batches)
  x = np.concatenate([batch["image"] for batch in batches])
  kernel = variables["params"]["backbone"]["stem"]["kernel"]
  maps = jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
  stem = found["batch_stats"]["backbone"]["stem"]["bn"]
  np.testing.assert_allclose(stem["mean"], np.mean(maps, (0, 1, 2)), rtol=1e-4, atol=1e-5)
  each = [np.var(part, (0, 1, 2)) for part in np.split(np.asarray(maps), 2)]
  np.testing.assert_allclose(stem["var"], np.mean(each, 0), rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
  """A latency table of all units of the space, their milliseconds by their weights."""
  networks = [
    SPACE.architecture(dict(zip(SPACE.options, values, strict=True)), "mobilenetv3_small", resolution=16, num_classes=10)
    for values in itertools.product(*SPACE.options.values())
  ]
  found = {"empty": {"alone_ms": [0.5], "runs": 1, "date": ""}}
  for unit in units.distinct(*networks):
    ms = [unit.weights * 1e-5]
    found[unit.key] = {"alone_ms": ms, "copies_ms": ms, "copies": 2, "runs": 1, "date": ""}
  about = {"device": "a phone", "runtime": "none", "threads": 1}
  file = tmp_path_factory.mktemp("table") / "table.json"
  file.write_text(json.dumps({"version": VERSION, **about, "date": "", "units": found}))
  return file


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A trained supernet, by the command line."""
  root = tmp_path_factory.mktemp("supernet")
  SPACE.write(root / "space.json")
  words = ["search", "supernet", "--config", root / "config.py", "--space", root / "space.json", "--workdir", root / "run"]
  (root / "config.py").write_text(
    f"from tiny_run import tiny_config\n\n\ndef get_config():\n  return tiny_config(**{ {**FIELDS, 'train.epochs': 1.0}!r})\n"
  )
  status, out, err = ended(*words, "--config.data.eval_split=test[:20]")
  assert (status, err) == (0, "") and f"search it: mnv3 search platform_aware --supernet {root}/run" in out
  return root / "run"


@pytest.mark.slow
def test_a_network_with_shared_weights_is_the_truncated_one(trained):
  """Its metrics are those of a network of its own, with statistics of the same batches."""
  run = load(trained)
  assert run.config.data.train_split == "train[:100]" and run.job.inner.random == 2
  config = run.config.copy_and_resolve_references()
  config.data.eval_split = "test[20:60]"
  shared = SharedWeights(run, jobs.open_dataset(config))
  rng = np.random.default_rng(2)
  for choices in (SPACE.extreme(largest=False), SPACE.random(rng)):
    subnetwork = run.job.inner.subnetwork(choices)
    alone = with_blocks(config, SPACE.blocks(choices))
    alone.supernet.space = ""
    job = jobs.from_config(alone)
    params = run.variables["params"]
    own = truncated(masked(run.variables, masks(subnetwork, params), outside(subnetwork, params)), subnetwork)
    devices = parallel.ShardMap()
    own = BatchStatistics(job.model, devices, job.architecture.bn_momentum)(own, shared.batches)
    expected = Evaluator(job, devices, 16)(devices.replicate(own))
    found = shared.metrics(choices)
    assert found["count"] == 40 and found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert found["top1"] == pytest.approx(expected["top1"], abs=0.026)


@pytest.mark.slow
def test_a_search_in_a_supernet(trained, table, tmp_path):
  lines = []
  options = {"table": table, "target_ms": 25.2, "sampler": "random", "batches": 1, "held_out": 20, "on_message": lines.append}
  result = search_supernet(trained, tmp_path / "search", samples=4, **options)
  assert len(lines) == 4 == len(result["samples"]) and result["metric"] == "top1"
  assert not (tmp_path / "search" / "samples" / "0001" / "run").exists()
  more = search_supernet(Run(trained), tmp_path / "search", samples=5, **options)
  assert more["samples"][:4] == result["samples"]
  config = load_config(str(tmp_path / "search" / "config.py"))
  assert config.model.blocks == more["blocks"] and not config.supernet.space
  with pytest.raises(UsageError, match="holds a search with batches=1, this one has 2"):
    search_supernet(trained, tmp_path / "search", samples=5, **{**options, "batches": 2})


def test_the_command_line(trained, table, tmp_path):
  words = ["search", "platform_aware", "--supernet", trained, "--table", table, "--target_ms", 25.2, "--sampler", "random"]
  words += ["--samples", 2, "--held_out", 20, "--workdir"]
  status, out, err = ended(*words, tmp_path / "search")
  assert (status, err) == (0, "") and "Pareto front:\nsample" in out
  for bad, message in (
    (["--config", "fashion_mnist"], "mnv3: --config has no effect with --supernet"),
    (["--epochs=3"], "mnv3: --epochs has no effect with --supernet"),
    (["--jobs", 2], "mnv3: --jobs has an effect with --supernet only if --train_top trains networks"),
    (["--proxy.optim.ema=0.9"], "mnv3: --proxy.optim.ema has no effect with --supernet"),
    (["--samples", 100_000], "mnv3: invalid --samples=100000; expected at most 128, the size of the search space"),
    (["--supernet", tmp_path / "none"], "mnv3: "),
  ):
    status, _, err = ended(*words, tmp_path / "other", *bad)
    assert (status, err.count("\n")) == (2, 1) and err.startswith(message), err
    assert not (tmp_path / "other").exists()
  status, _, err = ended("search", "platform_aware", "--workdir", tmp_path / "other", "--table", table, "--target_ms", 25.2)
  assert (
    status == 2 and err == "mnv3: search platform_aware: the option --config is missing; --supernet DIR is the other choice\n"
  )
  words = ["search", "supernet", "--config", "fashion_mnist", "--workdir", tmp_path / "other", "--space", "mnasnet"]
  status, _, err = ended(*words)
  assert status == 2 and err.startswith("mnv3: invalid ops=")


@pytest.mark.nightly
@pytest.mark.slow
def test_a_killed_training_goes_on(tmp_path):
  """The same weights as without the kill; and eight devices draw the same networks as one."""
  SPACE.write(tmp_path / "space.json")
  words = ["search", "supernet", "--config", tmp_path / "config.py", "--space", tmp_path / "space.json", "--workdir"]
  fields = {**FIELDS, "train.log_every": 1}
  (tmp_path / "config.py").write_text(
    f"import sys\n\nsys.path[:0] = {sys.path!r}\nfrom tiny_run import tiny_config\n\n\ndef get_config():\n"
    f"  return tiny_config(**{fields!r})\n"
  )
  done = mnv3(*words, tmp_path / "whole")
  assert done.returncode == 0, done.stderr
  command = [sys.executable, "-m", "mnv3_jax", *map(str, words), str(tmp_path / "killed")]
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
    for line in process.stdout:
      if line.startswith("step 8/"):
        process.send_signal(signal.SIGKILL)
        break
  done = mnv3(*words, tmp_path / "killed")
  assert done.returncode == 0 and "resuming" in done.stdout, done.stdout + done.stderr
  (step, expected), (again, found) = (last_state(tmp_path / name) for name in ("whole", "killed"))
  assert step == again == 18 and expected.keys() == found.keys()
  for name, x in expected.items():
    np.testing.assert_array_equal(found[name], x)
  eight = mnv3(*words, tmp_path / "eight", env={"XLA_FLAGS": "--xla_force_host_platform_device_count=8"})
  assert eight.returncode == 0, eight.stderr
