"""The public API: what a notebook imports."""

import ast
import inspect
import os
import pathlib
import shutil
import subprocess
import sys
import typing

import jax
import numpy as np
import pytest
from conftest import ROOT
from tiny_network import FEW_BLOCKS
from tiny_run import tiny_config, tiny_job

import mnv3_jax
from mnv3_jax.architectures import fields, zoo
from mnv3_jax.architectures.spec import ArchitectureError
from mnv3_jax.config import base
from mnv3_jax.deploy.export import Export
from mnv3_jax.errors import UsageError
from mnv3_jax.runs.run import Run
from mnv3_jax.training import loop, named_weights

SMALL = {"num_classes": 10, "width": 0.35, "resolution": 32}


def python(code):
  """Runs a program with warnings as errors; returns its standard output, standard error having to be empty."""
  words = [sys.executable, "-W", "error", "-c", code]
  done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=300)
  assert (done.returncode, done.stderr) == (0, ""), done.stderr
  return done.stdout


def test_the_table_of_names_is_what_type_checkers_read():
  tree = ast.parse(pathlib.Path(mnv3_jax.__file__).read_text())
  (block,) = [node for node in tree.body if isinstance(node, ast.If)]
  assert typing.TYPE_CHECKING is False and block.test.id == "TYPE_CHECKING"
  imported = {}
  for node in block.body:
    for name in node.names:
      assert name.asname == name.name, "`as` makes a type checker take an import for public"
      module = name.name in ("cost", "edits", "search", "zoo")
      imported[name.name] = f"{node.module}.{name.name}" if module else f"{node.module}:{name.name}"
  assert imported == mnv3_jax._PUBLIC
  assert sorted(mnv3_jax.__all__) == sorted({*mnv3_jax._PUBLIC, "__version__"}) and set(mnv3_jax.__all__) <= set(dir(mnv3_jax))


@pytest.mark.parametrize("name", mnv3_jax.__all__)
def test_every_public_name_is_there_typed_and_documented(name):
  value = getattr(mnv3_jax, name)
  if name == "__version__":
    return
  assert inspect.getdoc(value)
  if inspect.isfunction(value):
    signature = inspect.signature(value)
    assert all(p.annotation is not p.empty for p in signature.parameters.values()), name
    assert signature.return_annotation is not signature.empty, name


def test_unknown_attributes():
  with pytest.raises(AttributeError, match="no attribute 'trian'"):
    _ = mnv3_jax.trian


def test_a_function_stays_where_a_subpackage_has_its_name():
  code = (
    "import mnv3_jax, mnv3_jax.export.graph; from mnv3_jax.export import graph; mnv3_jax.zoo; "
    "print('export' in vars(mnv3_jax), graph.__name__)"
  )
  assert python(code) == "False mnv3_jax.export.graph\n"


def test_importing_is_quick_and_changes_nothing():
  code = (
    "import sys, time; began = time.perf_counter(); import mnv3_jax; seconds = time.perf_counter() - began; "
    "heavy = {'jax', 'numpy', 'absl', 'flax', 'ml_collections'} & set(sys.modules); print(seconds < 0.2, heavy)"
  )
  assert python(code) == "True set()\n"


@pytest.mark.slow
def test_loading_and_predicting_print_nothing(run):
  code = (
    "import mnv3_jax; from PIL import Image; "
    f"run = mnv3_jax.load({str(run)!r}); image = Image.new('RGB', (40, 30)); "
    "assert run.model.apply(run.variables, run.preprocess(image)[None]).shape == (1, 10); mnv3_jax.predict(run, image)"
  )
  assert python(code) == ""


def test_create_model():
  model, variables = mnv3_jax.create_model("mobilenetv3_small", **SMALL)
  x = np.zeros((2, 32, 32, 3), np.float32)
  logits = jax.jit(model.apply)(variables, x)
  assert logits.shape == (2, 10)
  maps = jax.eval_shape(lambda v, x: model.apply(v, x, method="features"), variables, x)
  assert {"C1", "C2", "C3", "C4", "C5", "block_01/depthwise", "features"} <= set(maps)
  assert maps["C3"].shape[1:3] == (4, 4) and "bneck 5×5" in str(model.net)
  other = mnv3_jax.create_model("mobilenetv3_small", **SMALL, seed=1)[1]
  assert (other["params"]["logits"]["kernel"] != variables["params"]["logits"]["kernel"]).any()


def test_create_model_of_an_architecture():
  net = mnv3_jax.edits.h_swish_from(mnv3_jax.zoo.mobilenetv3_small(), 112)
  model, _ = mnv3_jax.create_model(net, num_classes=10, resolution=32, dtype="bfloat16")
  assert model.net == net.replace(num_classes=10, resolution=32) and model.compute.dtype == "bfloat16"
  with pytest.raises(UsageError, match=r"invalid width=0\.5 with an Architecture"):
    mnv3_jax.create_model(net, width=0.5)


def test_create_model_refuses_a_field_without_effect():
  with pytest.raises(UsageError, match="width_rule='slim' has an effect only with width"):
    mnv3_jax.create_model("mobilenetv3_small", width_rule="slim")


def test_create_model_has_a_keyword_for_every_field():
  parameters = inspect.signature(mnv3_jax.create_model).parameters
  assert next(iter(parameters)) == "name_or_architecture" and list(parameters)[-2:] == ["seed", "weights"]
  others = {"in_channels", "features_only", "seed", "weights"}
  keywords = {name for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY} - others
  assert keywords == set(fields.FIELDS)
  described = inspect.getdoc(mnv3_jax.create_model)
  for name, field in fields.FIELDS.items():
    assert field.type in (args := typing.get_args(parameters[name].annotation)) or typing.get_origin(args[0]) is typing.Literal
    assert f"\n  {name}: " in described, name


def test_create_model_with_weights(run):
  expected = mnv3_jax.load(run)
  model, variables = mnv3_jax.create_model("mobilenetv3_small", weights=run)
  assert model.net == expected.model.net
  jax.tree.map(np.testing.assert_array_equal, variables, expected.variables)
  _, other = mnv3_jax.create_model("mobilenetv3_small", weights=Run(run), num_classes=3)
  assert other["params"]["logits"]["kernel"].shape[-1] == 3
  stem = other["params"]["backbone"]["stem"], expected.variables["params"]["backbone"]["stem"]
  jax.tree.map(np.testing.assert_array_equal, *stem)
  for given in ({"features_only": True}, {"num_classes": 0}):
    _, part = mnv3_jax.create_model("mobilenetv3_small", weights=run, **given)
    jax.tree.map(np.testing.assert_array_equal, part["params"]["backbone"], expected.variables["params"]["backbone"])
    assert "logits" not in part["params"]
  _, grey = mnv3_jax.create_model("mobilenetv3_small", weights=run, in_channels=1)
  kernels = (tree["params"]["backbone"]["stem"]["kernel"] for tree in (grey, expected.variables))
  np.testing.assert_allclose(*(kernel.sum(2) for kernel in kernels), rtol=1e-6)
  with pytest.raises(UsageError, match="tensors differ"):
    mnv3_jax.create_model("mobilenetv3_small", weights=run, width=0.5)
  with pytest.raises(UsageError, match="the weights are those of 'mobilenetv3_small'"):
    mnv3_jax.create_model("mobilenetv3_large", weights=run)


def test_list_models():
  assert mnv3_jax.list_models()[:2] == ["mobilenetv3_large", "mobilenetv3_small"]
  assert set(mnv3_jax.list_models()) == set(zoo.MODELS)
  assert mnv3_jax.list_models("*v3_small*") == ["mobilenetv3_small", "mobilenetv3_small_minimalistic"]


def test_unknown_names_have_a_closest():
  with pytest.raises(ArchitectureError, match="did you mean 'mobilenetv2'"):
    mnv3_jax.create_model("mobilenetv22")
  with pytest.raises(TypeError, match="widht"):
    mnv3_jax.create_model("mobilenetv2", widht=0.5)
  with pytest.raises(UsageError, match="no directory"):
    mnv3_jax.load("/nowhere")
  with pytest.raises(UsageError, match="EMA"):
    mnv3_jax.load("/nowhere", weights="EMA")


def test_get_config():
  config = mnv3_jax.get_config("fashion_mnist:mobilenetv3_large", {"train.epochs": 2}, model_width=0.5, data_classes=["Bag"])
  assert (config.model.name, config.train.epochs, config.model.width) == ("mobilenetv3_large", 2.0, 0.5)
  assert config.data.classes == ("Bag",) and config.optim.lr == 2e-4
  assert mnv3_jax.get_config(ROOT / "configs" / "imagenet.py", quantize_aware=True).quantize_aware is True


@pytest.mark.parametrize(
  ("name", "overrides", "message"),
  [
    ("fashion_mnits", {}, "no config 'fashion_mnits'; did you mean 'fashion_mnist'?"),
    ("fashion_mnist", {"train_epoch": 3}, "no field for train_epoch=3; did you mean 'train_epochs'?"),
    ("fashion_mnist", {"train_epochs": "many"}, "invalid train.epochs='many'; expected a number"),
    ("fashion_mnist", {"train": 3}, "did you mean 'train_"),
  ],
)
def test_get_config_names_what_is_wrong(name, overrides, message):
  with pytest.raises(UsageError) as error:
    mnv3_jax.get_config(name, **overrides)
  assert message in str(error.value)


def test_configs_are_found_without_a_checkout(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert mnv3_jax.get_config("fashion_mnist").train.batch_size == 64
  assert mnv3_jax.get_config("configs/fashion_mnist.py:mobilenetv2").model.name == "mobilenetv2"


def test_keywords_name_every_field_once():
  names = [f"{s}_{n}" for s, values in base().items() if hasattr(values, "items") for n in values]
  assert len(set(names)) == len(names)


def test_open_dataset():
  config = mnv3_jax.get_config("fashion_mnist", data_train_split="train[:128]", data_eval_split="test[:7]")
  dataset = mnv3_jax.open_dataset(config)
  assert next(dataset.train_batches(0))["image"].shape == (64, 32, 32, 3)
  assert len(dataset.classes) == 10 and sum(int(b["mask"].sum()) for b in dataset.eval_batches(4)) == 7
  assert config.data.classes == ()


SHORT = {"train.batch_size": 16, "train.epochs": 1.0, "data.train_split": "train[:64]", "data.eval_split": "test[:20]"}
NETWORK = {"model.blocks": FEW_BLOCKS}


@pytest.mark.slow
def test_train_returns_a_run_and_resumes(tmp_path):
  """Also without the command line nothing but progress is printed, and the caller's config stays as it was."""
  code = (
    "import mnv3_jax\n"
    f"config = mnv3_jax.get_config('fashion_mnist', {SHORT | NETWORK!r})\n"
    "before = config.to_dict()\n"
    f"run = mnv3_jax.train(config, {str(tmp_path / 'run')!r})\n"
    "assert config.to_dict() == before\n"
    "print(run)\n"
  )
  out = python(code)
  described = f"Run({str(tmp_path / 'run')!r}, mobilenetv3_small, 4 steps, test top1=0."
  assert "done in" in out and out.splitlines()[-1].startswith(described)
  run = mnv3_jax.train(mnv3_jax.get_config("fashion_mnist", SHORT | NETWORK), tmp_path / "run")
  assert run.result["steps"] == 4 and run.config.model.blocks == FEW_BLOCKS and run.metrics[-1]["split"] == "test"


@pytest.mark.slow
def test_runs_describe_themselves(tmp_path):
  assert repr(Run(tmp_path / "none")) == f"Run({str(tmp_path / 'none')!r}, not started)"
  config = tiny_config(**{"train.epochs": 1.0})
  loop.train(config, tmp_path / "run", tiny_job(config))
  run = Run(tmp_path / "run")
  assert os.fspath(run) == str(tmp_path / "run") and pathlib.Path(run) == run.workdir
  assert " steps, test top1=" in repr(run) and run.config.to_dict() == config.to_dict()
  (tmp_path / "run" / "result.json").unlink()
  assert repr(run).endswith(", not finished)") and run.result is None


def test_resolve(run):
  loaded = named_weights.resolve(Run(run), "raw")
  assert loaded.weights == "raw" and named_weights.resolve(loaded) is loaded
  assert named_weights.resolve(str(run)).weights == "ema"


def test_a_copied_run_directory_is_the_same_run(run, tmp_path):
  shutil.copytree(run, tmp_path / "copy")
  assert repr(Run(tmp_path / "copy")).split(",", 1)[1] == repr(Run(run)).split(",", 1)[1]


def test_a_file_that_is_worse_than_its_network_is_warned_of(tmp_path):
  accuracy = {"examples": 200, "figure": "top1", "flax": 0.831, "file": 0.386}

  def warnings(found):
    return Export(file=tmp_path / "a.tflite", format="tflite", record={"accuracy": found}, metric_label="top-1").warnings()

  (sentence,) = warnings(accuracy)
  assert "a.tflite loses 44.5 points of top-1 (0.3860, Flax 0.8310); --explain" in sentence
  assert warnings(accuracy | {"file": 0.79}) == warnings(None) == []
