"""Files without a classification head: as timm's num_classes=0 and Keras's include_top=False leave them."""

import dataclasses

import h5py
import jax
import numpy as np
import pytest
import seeds
from conftest import ended, mnv3, ok
from PIL import Image
from safetensors.numpy import save_file

import mnv3_jax
from mnv3_jax.architectures import cost
from mnv3_jax.errors import UsageError
from mnv3_jax.models import inference
from mnv3_jax.training import named_weights
from mnv3_jax.weights import mapping, sources, written_files
from mnv3_jax.weights.content import KerasLayers

TIMM = "mobilenetv3_small_050"
# of a network without a hidden layer, and of one with it
KERAS = [("MobileNetV2", {"width": 0.35}), ("MobileNetV3Small", {"width": 0.75})]


def seeded(source, model, left_out, **fields):
  """(Published, its seeded tensors, those of them that are not in layers whose names begin with `left_out`)."""
  published = sources.published(source, model, **fields)
  tensors = seeds.tensors(published)
  return published, tensors, {name: a for name, a in tensors.items() if not name.startswith(left_out)}


@pytest.mark.parametrize("model", ["mobilenetv1_100", "mobilenetv2_050", TIMM, "mobilenetv4_conv_small"])
def test_timms_file_has_the_features_of_the_whole_network(model):
  published, tensors, file = seeded("timm", model, "classifier.")
  found, architecture, variables = sources.variables("timm", model, {f"module.{n}": a for n, a in file.items()}, "headless")
  whole = sources.variables("timm", model, tensors, "whole")[2]
  assert found.architecture() == architecture == published.architecture(0)
  logits = whole["params"].pop("logits")
  jax.tree.map(np.testing.assert_array_equal, variables, whole)
  assert logits["kernel"].shape[0] == architecture.head.output_shape(architecture)[0]


@pytest.mark.parametrize(("model", "fields"), KERAS)
@pytest.mark.parametrize("legacy", [False, True])
def test_kerass_file_has_the_backbone_of_the_whole_network(model, fields, legacy):
  _, tensors, file = seeded("keras", model, ("conv_2/", "logits/", "predictions/"), **fields)
  layers = seeds.as_file("keras", file).layers
  if legacy:
    # by their order alone, as the applications' own files
    layers = [(f"layer_{i}", arrays) for i, (_, arrays) in enumerate(layers)]
  published, architecture, variables = sources.variables("keras", model, KerasLayers(layers, legacy), "no_top.h5", **fields)
  whole = sources.variables("keras", model, seeds.as_file("keras", tensors), "whole.h5", **fields)[2]
  assert published.architecture() == architecture and architecture.head.hidden is None
  for kind, rows in variables.items():
    assert set(rows) == {"backbone"}
    jax.tree.map(np.testing.assert_array_equal, rows["backbone"], whole[kind]["backbone"])


def test_torchvisions_and_slims_files_may_end_after_the_backbone():
  for source, model, left_out in (
    ("torchvision", "mobilenet_v3_small", "classifier."),
    ("slim", "v3-small_224_0.75_float", ("MobilenetV3/Logits", "MobilenetV3/Conv_2")),
  ):
    published, _, file = seeded(source, model, left_out)
    architecture, variables = mapping.from_source(published, file, "headless")
    assert architecture.num_classes == 0 and architecture.head.hidden is None and set(variables["params"]) == {"backbone"}
  published, tensors, file = seeded("torchvision", "mobilenet_v3_small", "classifier.3.")
  architecture, variables = mapping.from_source(published, file, "headless")
  np.testing.assert_array_equal(variables["params"]["hidden"]["kernel"], tensors["classifier.0.weight"].T)
  assert architecture == published.architecture(0)


@pytest.mark.parametrize(
  ("left_out", "words"),
  [
    # half a layer, a layer before the last, and one of the backbone
    ("classifier.bias", r"1 tensors are missing \(classifier.bias\)"),
    ("conv_head.", r"2 tensors are missing \(conv_head.weight, conv_head.bias\)"),
    (("classifier.", "bn1.bias"), r"1 tensors are missing \(bn1.bias\)"),
  ],
)
def test_what_else_is_missing_is_named(left_out, words):
  _, _, file = seeded("timm", TIMM, left_out)
  with pytest.raises(UsageError, match=words):
    sources.variables("timm", TIMM, file, "headless")


def test_another_network_is_recognised():
  _, _, file = seeded("timm", TIMM, "classifier.")
  with pytest.raises(UsageError, match=f"it seems to be source='timm', model='{TIMM}'"):
    sources.variables("timm", "mobilenetv3_large_100", file, "headless")


def test_heads_of_other_tasks_are_not_left_out():
  published, _, file = seeded("torchvision", "lraspp_mobilenet_v3_large", "classifier.")
  assert mapping.headless(published) == []
  with pytest.raises(UsageError, match="tensors are missing"):
    mapping.from_source(published, file, "headless")


def test_two_networks_in_a_file_are_told_apart_without_their_heads():
  _, tensors, file = seeded("timm", TIMM, "classifier.")
  both = {f"{prefix}.{name}": a for prefix in ("student", "teacher") for name, a in file.items()}
  assert sources.variables("timm", TIMM, both, "both")[1].num_classes == 0
  both["teacher.bn1.bias"] = both["teacher.bn1.bias"] + 1
  with pytest.raises(UsageError, match="the network is there 2 times"):
    sources.variables("timm", TIMM, both, "both")
  # the head is compared where one of them has it
  one = {**{f"student.{n}": a for n, a in tensors.items()}, **{f"teacher.{n}": a for n, a in tensors.items()}}
  one["teacher.classifier.bias"] = one["teacher.classifier.bias"] + 1
  with pytest.raises(UsageError, match="the network is there 2 times"):
    sources.variables("timm", TIMM, one, "both")


@pytest.fixture(scope="module")
def imports(tmp_path_factory):
  """Folder with imports of seeded V3-Small: timm's, "whole" and "headless", and Keras's without its top, "no_top"."""
  folder = tmp_path_factory.mktemp("headless")
  _, tensors, file = seeded("timm", TIMM, "classifier.")
  for name, content in (("whole", tensors), ("headless", file)):
    save_file(content, folder / f"{name}.safetensors")
  said = ok("import", "--from", "timm", "--model", TIMM, folder / "headless.safetensors", "--out", folder / "headless")
  assert f"timm's {TIMM}, no classification head, 568,224 parameters" in said
  mnv3_jax.import_weights("timm", TIMM, folder / "whole.safetensors", folder / "whole")
  Image.new("RGB", (32, 32)).save(folder / "photo.png")
  published, _, file = seeded("keras", "MobileNetV3Small", ("conv_2/", "logits/"))
  a = published.architecture()
  depthwise = frozenset(published.names(a)[x.name].layer for x in cost.layers(a) if x.kind == "depthwise")
  for name in ("no_top.weights.h5", "no_top.h5"):
    (folder / name).write_bytes(written_files.keras_content(file, depthwise, name))
  with h5py.File(folder / "no_top.h5") as file:
    assert "layer_names" in file.attrs
  mnv3_jax.import_weights("keras", "MobileNetV3Small", folder / "no_top.weights.h5", folder / "no_top")
  mnv3_jax.import_weights("keras", None, folder / "no_top.h5", folder / "legacy")
  return folder


def test_both_forms_of_keras_are_one_network(imports):
  one, other = (mnv3_jax.load(imports / name) for name in ("no_top", "legacy"))
  assert one.architecture == other.architecture and one.config.model.head_hidden == 0
  jax.tree.map(np.testing.assert_array_equal, one.variables, other.variables)


@pytest.mark.parametrize("options", [{"num_classes": 0}, {"features_only": True}])
def test_features_are_equal_to_the_bit(imports, options):
  images = np.random.default_rng(0).uniform(-1, 1, (1, 64, 64, 3)).astype(np.float32)
  whole, headless = (
    inference.outputs(*mnv3_jax.create_model("mobilenetv3_small", weights=imports / name, **options), images)
    for name in ("whole", "headless")
  )
  jax.tree.map(np.testing.assert_array_equal, headless, whole)


def test_models_have_what_the_file_has(imports):
  model, variables = mnv3_jax.create_model("mobilenetv3_small", weights=imports / "no_top")
  assert model.net.num_classes == 0 and set(variables["params"]) == {"backbone"}
  assert model.net.head.output_shape(model.net) == (576,)
  for name, new in (("headless", {"logits"}), ("no_top", {"hidden", "logits"})):
    _, first = mnv3_jax.create_model("mobilenetv3_small", weights=imports / name, num_classes=7, seed=1)
    _, other = mnv3_jax.create_model("mobilenetv3_small", weights=imports / name, num_classes=7, seed=2)
    differ = {
      row
      for row in first["params"]
      if any(map(np.any, jax.tree.leaves(jax.tree.map(np.not_equal, *(v["params"][row] for v in (first, other))))))
    }
    assert differ == new


@pytest.mark.parametrize("verb", ["predict", "evaluate", "export", "export_weights"])
def test_what_needs_a_head_is_refused(imports, verb, tmp_path):
  given = {
    "export_weights": ("--format", "timm", "--out", tmp_path / "w.safetensors"),
    "export": ("--out", tmp_path / "m.tflite"),
  }
  words = given.get(verb, (imports / "photo.png",) if verb == "predict" else ())
  status, out, err = ended(verb, "--workdir", imports / "headless", *words)
  assert (status, out) == (2, "") and err.count("\n") == 1
  assert "has no classification head, its weights were saved without one; mnv3 train --init DIR trains a new one" in err
  assert list(tmp_path.iterdir()) == []


def test_the_library_refuses_it_too(imports):
  run = mnv3_jax.load(imports / "headless")
  assert named_weights.load_run(run) is run
  with pytest.raises(UsageError, match="no classification head"):
    named_weights.resolve(run)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "head"), [("headless", "a new head of 10 classes\n"), ("no_top", "10 classes: hidden, logits\n")]
)
def test_training_begins_with_a_new_head(imports, name, head, tmp_path):
  words = ("--config.train.steps=2", "--config.train.batch_size=8", "--config.data.train_split=train[:16]")
  more = ("--config.data.eval_split=test[:8]", "--config.model.resolution=32")
  config = ("--config", "configs/fashion_mnist.py", "--workdir", tmp_path / "run", "--init", imports / name)
  done = mnv3("train", *config, *words, *more)
  assert done.returncode == 0 and head in done.stdout + done.stderr
  run = mnv3_jax.load(tmp_path / "run")
  assert run.config.model.head_hidden is None and run.architecture.num_classes == 10
  # and its width is that of the weights
  assert dataclasses.replace(run.architecture.head, dropout=0) == dataclasses.replace(
    sources.published("timm", TIMM).architecture().head if name == "headless" else mnv3_jax.zoo.mobilenetv3_small().head,
    dropout=0,
  )
