"""Weights in files for other libraries: read again to the bit, described for timm, and refused where no network fits."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ended, tiny_architecture
from ml_collections import ConfigDict
from random_weights import random_variables, same_variables
from safetensors import safe_open

import mnv3_jax
from mnv3_jax.architectures import edits, fields, zoo
from mnv3_jax.data.transforms.preprocessing import Preprocessing
from mnv3_jax.deploy import export_weights as exporting
from mnv3_jax.errors import UsageError
from mnv3_jax.models.network import network
from mnv3_jax.training.trained import TrainedRun
from mnv3_jax.weights import formats, sources, targets
from mnv3_jax.weights.hub import repositories
from mnv3_jax.weights.hub.named import HubFile

FILES = {"timm": "model.safetensors", "torchvision": "net.safetensors", "keras": "net.weights.h5", "slim": "net.npz"}
# one of every structure; tags, and slim's widths and resolutions, have the same names
QUICK = [
  ("timm", "mnasnet_small", {}),
  ("timm", "mobilenetv3_small_050", {}),
  ("timm", "mobilenetv4_conv_small_050", {}),
  ("torchvision", "mobilenet_v3_small", {"width": 0.5}),
  ("torchvision", "lraspp_mobilenet_v3_large", {}),
  ("torchvision", "ssdlite320_mobilenet_v3_large", {}),
  ("keras", "MobileNet", {"width": 0.25}),
  ("keras", "MobileNetV3Small", {"minimalistic": True}),
  ("slim", "mobilenet_v2_0.35_224", {}),
]
SLOW = [
  *((source, model, {}) for source in targets.FORMATS for model, p in sources.SOURCES[source].items()),
  *(("keras", model, {"width": 0.75}) for model in sources.SOURCES["keras"]),
  *(("torchvision", model, {"width": 1.4}) for model in ("mobilenet_v2", "mobilenet_v3_large")),
]
CASES = [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW if case not in QUICK)]


def exported(published, classes, folder, format, name):
  """Random weights of a published network, and what export_weights makes of them."""
  a = published.architecture(classes)
  variables = random_variables(published, a)
  return variables, mnv3_jax.export_weights((network(a), variables), format, folder / name)


def read(found):
  """(Architecture, variables) of an exported file, by the importer."""
  content = formats.read(found.file)
  return sources.variables(found.format, found.model, content, "exported", **found.arguments)[1:]


@pytest.mark.parametrize(("source", "model", "options"), CASES)
def test_a_file_is_read_again_to_the_bit(source, model, options, tmp_path):
  published = sources.published(source, model, **options)
  variables, found = exported(published, 7, tmp_path, source, FILES[source])
  # the same network, under its first name
  again, back = read(found)
  own = published.architecture(7)
  assert again.blocks == own.blocks and again.head == own.head and again.num_classes == found.num_classes == 7
  if published.gate != 1:
    # of V3 in TF-slim the kernels after squeeze-excite have another factor
    for name, _, block in own.rows():
      if block.se:
        kernels = [tree["params"]["backbone"][name]["project"].pop("kernel") for tree in (back, variables)]
        np.testing.assert_allclose(*kernels, rtol=3e-7)
  assert same_variables(back, variables)


@pytest.mark.parametrize("name", ["net.h5", "net.weights.h5"])
def test_both_layouts_of_keras(name, tmp_path):
  variables, found = exported(sources.published("keras", "MobileNetV2", width=0.35), 5, tmp_path, "keras", name)
  content = formats.read(found.file)
  assert content.ordered == (name == "net.h5") and same_variables(read(found)[1], variables)


# the network as this project trains it, and where it fits
DEFAULTS = {
  "mobilenetv3_large": {"timm": "tf_mobilenetv3_large_100", "keras": "MobileNetV3Large", "slim": "v3-large_224_1.0_float"},
  "mobilenetv3_small": {"timm": "tf_mobilenetv3_small_100", "keras": "MobileNetV3Small", "slim": "v3-small_224_1.0_float"},
  "mobilenetv3_small_minimalistic": {
    "timm": "tf_mobilenetv3_small_minimal_100",
    "keras": "MobileNetV3Small",
    "slim": "v3-small-minimalistic_224_1.0_float",
  },
  "mobilenetv1": {"timm": "mobilenetv1_100", "keras": "MobileNet", "slim": "mobilenet_v1_1.0_224"},
  "mobilenetv2": {"timm": "mobilenetv2_100", "keras": "MobileNetV2", "slim": "mobilenet_v2_1.0_224"},
  "mnasnet_a1": {"timm": "semnasnet_100"},
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_networks_of_the_paper_fit(name):
  a = fields.architecture(name, num_classes=10, resolution=32)
  for format, model in DEFAULTS[name].items():
    found = targets.find(format, a)
    assert found.model == model and found.architecture.blocks == a.blocks
  with pytest.raises(
    UsageError, match=r"invalid format='torchvision': .* differs from .*padding='same' instead of 'symmetric'"
  ):
    targets.find("torchvision", a)


def test_torchvision_expands_v2_by_factors():
  """features.2.conv.0.0.weight and classifier.1.weight of mobilenet_v2(width_mult=1.4) have 144 and 1792 channels."""
  a = sources.published("torchvision", "mobilenet_v2", width=1.4).architecture()
  assert a.blocks[1].expand == 144 and a.features.filters == 1792


def test_what_timm_is_told(tmp_path):
  v2 = fields.architecture("mobilenetv2", width=0.5, num_classes=3, resolution=64)
  target = targets.find("timm", v2)
  variables = random_variables(target.published, target.architecture)
  found = mnv3_jax.export_weights((network(v2), variables), "timm", tmp_path / "a" / "model.safetensors")
  config = json.loads((tmp_path / "a" / "config.json").read_text())
  assert config["architecture"] == "mobilenetv2_050" and config["num_classes"] == 3
  assert config["model_args"] == {"bn_eps": 1e-3, "pad_type": "same"}
  assert config["pretrained_cfg"]["input_size"] == [3, 64, 64] and config["pretrained_cfg"]["mean"] == [0.5] * 3
  assert found.usage[-1] == f"model = timm.create_model('local-dir:{tmp_path}/a', pretrained=True)"
  # and understood here
  weights = repositories.described("hf://a/b", HubFile("a/b"), config, None)
  a = weights.architecture
  assert (a.padding, a.bn_epsilon, a.num_classes, a.resolution, a.blocks) == ("same", 1e-3, 3, 64, v2.blocks)
  with safe_open(found.file, "np") as file:
    assert file.metadata() == {"format": "pt"} and len(file.keys()) == found.num_tensors
    assert file.get_tensor("bn1.num_batches_tracked") == 0
  run = mnv3_jax.import_weights("timm", "mobilenetv2_050", found.file, tmp_path / "again", resolution=64)
  loaded = mnv3_jax.load(run)
  assert same_variables(loaded.variables, variables)
  assert (loaded.architecture.padding, loaded.architecture.bn_epsilon, loaded.architecture.blocks) == ("same", 1e-3, v2.blocks)
  # another name has no config.json, since one directory can have several
  other = mnv3_jax.export_weights((network(v2), variables), "timm", tmp_path / "b.safetensors")
  assert other.config is None and not (tmp_path / "config.json").exists()
  assert other.usage[-1].startswith("model = timm.create_model('mobilenetv2_050', num_classes=3, bn_eps=0.001, pad_type='same'")


def test_a_description_with_unknown_arguments_is_refused():
  # timm 1.0.31 writes the first three of every network
  usual = {"in_chans": 3, "num_classes": 5, "global_pool": "avg", "drop_rate": 0.3}
  config = {"architecture": "mobilenetv2_100", "num_classes": 5, "model_args": usual}
  assert repositories.described("hf://a/b", HubFile("a/b"), config, None).architecture.num_classes == 5
  config["model_args"]["act_layer"] = "gelu"
  with pytest.raises(UsageError, match=r"invalid config.json: model_args has act_layer='gelu', which is not known here"):
    repositories.described("hf://a/b", HubFile("a/b"), config, None)


SMALL = {"num_classes": 10, "resolution": 32}


@pytest.mark.slow
@pytest.mark.parametrize(
  ("architecture", "format", "words"),
  [
    (
      edits.h_swish_from(zoo.mobilenetv3_small(), 16).replace(padding="symmetric"),
      "torchvision",
      r"mobilenetv3_small differs from mobilenet_v3_small, the nearest network there: .*activation='hard_swish' instead of "
      r"'relu'",
    ),
    (
      fields.architecture("mobilenetv3_small", se_ratio=0.0, **SMALL),
      "keras",
      r"block_01.se=None instead of \{'channels': 8, 'gate': 'hard_sigmoid'\}",
    ),
    (fields.architecture("mobilenetv3_large", head="r_aspp"), "torchvision", "head="),
    (fields.architecture("mnasnet_a1", **SMALL), "keras", r"; expected format='timm'$"),
    (tiny_architecture(), "slim", "blocks=3 instead of"),
    (fields.architecture("mobilenetv2", num_classes=1001), "slim", "num_classes=1001, of which the first would be taken for"),
    # V1 there has 9 channels where the stem has 8
    (fields.architecture("mobilenetv1", width=0.3, **SMALL), "keras", "differs from MobileNet, the nearest network there"),
    (fields.architecture("mobilenetv1", width=0.3, **SMALL), "slim", "differs from mobilenet_v1_"),
    # odd maps, where Keras's MobileNet pads otherwise
    (fields.architecture("mobilenetv1", resolution=100), "keras", "padding='same' instead of 'keras_v1'"),
    (
      sources.published("torchvision", "ssdlite320_mobilenet_v3_large").architecture().replace(resolution=256),
      "torchvision",
      "resolution=256 instead of 320",
    ),
  ],
)
def test_a_network_that_the_format_does_not_have(architecture, format, words, tmp_path):
  with pytest.raises(UsageError, match=words) as error:
    mnv3_jax.export_weights((network(architecture), {}), format, tmp_path / FILES[format])
  assert "\n" not in str(error.value) and str(error.value).startswith(f"invalid format={format!r}: ")
  assert list(tmp_path.iterdir()) == []


def test_a_detector_that_normalizes_images_otherwise():
  target = targets.find("torchvision", sources.published("torchvision", "ssdlite320_mobilenet_v3_large").architecture())
  exporting._check_preprocessing(target, Preprocessing())
  with pytest.raises(UsageError, match=r"normalizes images itself, with mean=\(0.5, 0.5, 0.5\) instead of \(0.1, 0.2, 0.3\)"):
    exporting._check_preprocessing(target, Preprocessing(mean=(0.1, 0.2, 0.3)))


@pytest.mark.parametrize(
  ("format", "name", "words"),
  [
    ("tim", "a.safetensors", "invalid format='tim'; did you mean 'timm'"),
    ("timm", "a.pth", "expected the name of a .safetensors file"),
    ("keras", "a.keras", "expected the name of a .h5 file"),
    ("keras", "a", "expected the name of a .h5 file"),
    ("slim", ".", "it is a directory"),
    ("timm", "run/model.safetensors", "config.json' is there, and not timm's: expected a directory of its own"),
  ],
)
def test_files_that_cannot_be(format, name, words, tmp_path):
  run = tmp_path / "run" / "config.json"
  run.parent.mkdir()
  run.write_text('{"model": {}}')
  with pytest.raises(UsageError, match=words):
    mnv3_jax.export_weights((network(tiny_architecture()), {}), format, tmp_path / name)
  assert run.read_text() == '{"model": {}}' and list(tmp_path.rglob("*.*")) == [run]


def test_a_quantization_aware_run_is_refused(tmp_path):
  config = ConfigDict({"quantize_aware": True})
  job = SimpleNamespace(architecture=sources.published("timm", "mobilenetv3_small_100").architecture())
  run = TrainedRun(config=config, job=job, variables={}, weights="ema", step=0, workdir=tmp_path)
  with pytest.raises(UsageError, match="which is quantization-aware"):
    mnv3_jax.export_weights(run, "timm", tmp_path / "model.safetensors")


def test_averaged_weights_are_the_default(monkeypatch, tmp_path):
  asked = []

  def resolve(run, weights):
    asked.append((run, weights))
    raise UsageError("no run")

  monkeypatch.setattr(exporting, "resolve", resolve)
  for options in ({}, {"weights": "raw"}):
    with pytest.raises(UsageError, match="no run"):
      mnv3_jax.export_weights("runs/a", "timm", tmp_path / "model.safetensors", **options)
  assert asked == [("runs/a", "ema"), ("runs/a", "raw")]


def test_the_command(tmp_path):
  source, model = "timm", "mobilenetv3_small_050"
  _, found = exported(sources.published(source, model), 3, tmp_path, source, "first.safetensors")
  names = tmp_path / "names.txt"
  names.write_text("ant\nbee\ncat\n")
  workdir, out = tmp_path / "run", tmp_path / "out" / "model.safetensors"
  mnv3_jax.import_weights(source, model, found.file, workdir, classes=names, resolution=64)
  status, said, err = ended("export_weights", "--workdir", workdir, "--format", "timm", "--out", out)
  assert (status, err) == (0, "") and "timm's mobilenetv3_small_050, 3 classes" in said and "local-dir:" in said
  assert out.read_bytes() == found.file.read_bytes()
  config = json.loads((out.parent / "config.json").read_text())
  assert config["label_names"] == ["ant", "bee", "cat"] and config["pretrained_cfg"]["interpolation"] == "bicubic"
  for words, sentence in (
    (("--format", "torchvision", "--out", tmp_path / "x.safetensors"), "invalid --format='torchvision': mobilenetv3_small"),
    (("--format", "keras", "--out", tmp_path / "x.npz"), "expected the name of a .h5 file"),
    (("--format", "onnx", "--out", tmp_path / "x"), "invalid choice: 'onnx'"),
  ):
    status, said, err = ended("export_weights", "--workdir", workdir, *words)
    assert (status, said) == (2, "") and sentence in err and err.count("\n") == 1, err
  status, _, err = ended("export_weights", "--format", "timm", "--out", out)
  assert status == 2 and "export_weights has no --workdir DIR" in err
  assert not list(tmp_path.glob("x*"))
