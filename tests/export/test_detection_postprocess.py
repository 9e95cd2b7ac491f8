"""Detections inside a .tflite file: the operator TFLite_Detection_PostProcess, run by both runtimes in a process of its own."""

import dataclasses
import os
import pathlib
import re
import subprocess
import sys

import detection_files
import jax
import numpy as np
import pytest
from conftest import ROOT
from detection_files import CLASSES, anchors, image, reference
from PIL import Image

from mnv3_jax.architectures.conventions import CONVENTIONS
from mnv3_jax.boxes.detection_operator import NAME, OUTPUTS, detection_operator, operator_inputs
from mnv3_jax.errors import UsageError
from mnv3_jax.export import graph, tflite
from mnv3_jax.export.converter import convert
from mnv3_jax.export.detection_postprocess import append_operator
from mnv3_jax.export.quantize import quantize
from mnv3_jax.export.runtime import TFLiteModel
from mnv3_jax.models.initialize import initialize
from mnv3_jax.models.network import network
from mnv3_jax.tasks.agreement import Agreement
from mnv3_jax.tasks.outputs import OutputSpec

# the last one is the first one again
IMAGES = np.concatenate([image(i) for i in (0, 1, 2, 3, 4, 5, 0)])
QUANTIZATIONS = ("none", "int8", "int8_integer")
CASES = [(c, p, q) for c in CONVENTIONS for p in ("device", "evaluate") for q in QUANTIZATIONS]
IDS = ["-".join(case) for case in CASES]


def operator(convention, profile):
  """Few detections, so that some are left out; of the device so strong ones that some images have few."""
  made = detection_operator(profile, CONVENTIONS[convention], CLASSES, anchors())
  least = {"tensorflow": 0.9, "torchvision": 0.6}[convention] if profile == "device" else made.score_threshold
  return dataclasses.replace(made, max_detections=25, score_threshold=least)


def run_files(folder, files):
  """{name: outputs by "runtime/name"} of files given as {name: (content, images)}."""
  words = []
  for name, (content, images) in files.items():
    (folder / f"{name}.tflite").write_bytes(content)
    np.save(folder / f"{name}.npy", images)
    words += [str(folder / f"{name}.tflite"), str(folder / f"{name}.npy")]
  runner = pathlib.Path(__file__).with_name("run_files.py")
  done = subprocess.run([sys.executable, "-W", "error", str(runner), *words], capture_output=True, text=True, timeout=300)
  assert done.returncode == 0, done.stderr[-2000:]
  return {name: dict(np.load(folder / f"{name}.npz")) for name in files}


@pytest.fixture(scope="module")
def raw():
  """{(convention, quantization): the file of codes and scores}."""
  found = {}
  for convention in CONVENTIONS:
    content = detection_files.raw_file(convention)
    for quantization in QUANTIZATIONS:
      found[convention, quantization] = quantize(content, quantization, [image(i) for i in range(8)])
  return found


@pytest.fixture(scope="module")
def run(raw, tmp_path_factory):
  """Outputs of every case by name, of both runtimes."""
  files = {}
  for convention, profile, quantization in CASES:
    content = append_operator(raw[convention, quantization], operator(convention, profile))
    model = TFLiteModel(raw[convention, quantization])
    files[f"{convention}-{profile}-{quantization}"] = content, np.concatenate([model._quantized(x[None]) for x in IMAGES])
  return run_files(tmp_path_factory.mktemp("files"), files)


@pytest.mark.parametrize("runtime", ["interpreter", "compiled"])
@pytest.mark.parametrize("convention, profile, quantization", CASES, ids=IDS)
def test_detections_are_those_of_the_reference(convention, profile, quantization, runtime, raw, run):
  outputs = run[f"{convention}-{profile}-{quantization}"]
  boxes, classes, scores, count = (outputs[f"{runtime}/{name}"] for name in OUTPUTS)
  op = operator(convention, profile)
  assert (boxes.shape, count.shape) == ((7, 25, 4), (7,)) and all(x.dtype == np.float32 for x in outputs.values())
  model = TFLiteModel(raw[convention, quantization])
  for i, x in enumerate(IMAGES):
    codes, given = (model(x[None])[n][0] for n in (0, 1))
    expected = reference(codes, given, anchors(), op)
    n = int(count[i])
    assert n == len(expected)
    assert scores[i, :n] == pytest.approx(np.array([s for _, s, _ in expected]), abs=1e-6)
    # those of one score are in any order, and the last ones may be others of the same score
    last = scores[i, n - 1] if n == op.max_detections else -1
    found = sorted((s, k, *b) for s, k, b in zip(scores[i, :n], classes[i, :n], boxes[i, :n].round(4), strict=True) if s > last)
    wanted = sorted((s, k, *b.astype(np.float32).round(4)) for k, s, b in expected if s > last)
    assert np.array(found) == pytest.approx(np.array(wanted), abs=2e-4)
  # also where scores are equal, as many are in 8 bits
  n = int(count[0])
  assert all((x[-1, :n] == x[0, :n]).all() for x in (boxes, classes, scores)) and count[-1] == n
  counts = set(count.tolist())
  assert (len(counts) > 1 and min(counts) < 25) if profile == "device" else counts == {25.0}


def test_detections_are_those_of_the_network_in_jax(run):
  """The float file against the network itself, convention by convention."""
  for convention in CONVENTIONS:
    forward = jax.jit(lambda x, c=convention: operator_inputs(*detection_files.detector()(x), CONVENTIONS[c]))
    outputs, op = run[f"{convention}-evaluate-none"], operator(convention, "evaluate")
    for i, x in enumerate(IMAGES):
      expected = reference(*(np.asarray(value)[0] for value in forward(x[None])), anchors(), op)
      assert outputs["interpreter/scores"][i] == pytest.approx(np.array([s for _, s, _ in expected]), abs=1e-5)
      assert outputs["interpreter/boxes"][i] == pytest.approx(np.array([b for *_, b in expected]), abs=1e-3)
      assert outputs["interpreter/classes"][i].tolist() == [k for k, *_ in expected]
      # boxes are not clipped
    assert outputs["interpreter/boxes"].min() < -0.01 and outputs["interpreter/boxes"].max() > 1.01


WITH_THREADS = """
import sys
from ai_edge_litert.interpreter import Interpreter
import numpy as np
for threads in (1, 2, 4):
  run = Interpreter(model_path=sys.argv[1], num_threads=threads).get_signature_runner()
  (name,) = run.get_input_details()
  outputs = [run(**{name: image[None]}) for image in np.load(sys.argv[2])]
  # rows after `count` are not written: they hold whatever the memory held
  print(threads, *sorted({int(k) for out in outputs for k in out["classes"][0][: int(out["count"][0])]}))
"""


@pytest.mark.parametrize("profile", ["device", "evaluate"])
def test_the_runtime_leaves_out_a_class_with_several_threads(profile, raw, tmp_path):
  """A fault of LiteRT: once this fails for "evaluate", DetectionOperator.threads can go."""
  op = dataclasses.replace(operator("tensorflow", profile), max_detections=100, score_threshold=0.0)
  (tmp_path / "a.tflite").write_bytes(append_operator(raw["tensorflow", "none"], op))
  np.save(tmp_path / "a.npy", IMAGES)
  words = [sys.executable, "-c", WITH_THREADS, str(tmp_path / "a.tflite"), str(tmp_path / "a.npy")]
  out = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
  found = {int(words[0]): {int(k) for k in words[1:]} for words in (line.split() for line in out)}
  lost = {threads: found[1] - classes for threads, classes in found.items()}
  assert op.threads == (1 if profile == "evaluate" else None)
  assert lost == ({1: set(), 2: {2}, 4: {4}} if profile == "evaluate" else {1: set(), 2: set(), 4: set()})


def test_scores_without_a_background_column(tmp_path):
  forward = detection_files.detector()
  shape = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
  content = convert(lambda x: (forward(x)[0], jax.nn.sigmoid(forward(x)[1][..., 1:])), shape)
  op = operator("tensorflow", "evaluate")
  outputs = run_files(tmp_path, {"bare": (append_operator(content, op), IMAGES[:1])})["bare"]
  codes, scores = TFLiteModel(content)(IMAGES[:1])
  expected = reference(codes[0], scores[0], anchors(), op)
  assert outputs["interpreter/classes"][0].tolist() == [k for k, *_ in expected]


def test_the_file_has_every_option_static_shapes_and_names(raw):
  from ai_edge_litert.tools import flatbuffer_utils as flat
  from flatbuffers import flexbuffers

  op = operator("tensorflow", "evaluate")
  for quantization in QUANTIZATIONS:
    content = append_operator(graph.with_note(raw["tensorflow", quantization], {"a": 1}), op)
    model = flat.read_model_from_bytearray(bytearray(content))
    (subgraph,), (signature,) = model.subgraphs, model.signatureDefs
    node = subgraph.operators[-1]
    assert flexbuffers.Loads(bytes(node.customOptions)) == pytest.approx(op.options())
    tensors = [subgraph.tensors[i] for i in node.outputs]
    assert [tuple(t.shape) for t in tensors] == [(1, 25, 4), (1, 25), (1, 25), (1,)] and list(node.outputs) == list(
      subgraph.outputs
    )
    assert [(m.name.decode(), m.tensorIndex) for m in signature.outputs] == list(zip(OUTPUTS, subgraph.outputs, strict=True))
    assert [subgraph.tensors[i].type for i in node.inputs] == [flat.TensorType.FLOAT32] * 3
    loaded = TFLiteModel(content)
    assert loaded.output_names == OUTPUTS and loaded.outside == {NAME: 1} and loaded.partitions == 1
    assert graph.note(graph.with_note(content, {"b": 2})) == {"a": 1}
    # scores are computed in float where floats are allowed: in 8 bits all below 1/256 would be 0
    scores = {o.type: o for o in graph.operators(content)}["LOGISTIC"]
    kinds = flat.type_to_name(subgraph.tensors[scores.output].type)
    assert kinds == ("INT8" if quantization == "int8_integer" else "FLOAT32")


@pytest.mark.parametrize(
  "change, shapes",
  [
    ({"anchors": anchors()[:-1]}, r"codes of \(1, 59, 4\) and scores of \(1, 59, 5\) or \(1, 59, 6\)"),
    ({"num_classes": CLASSES - 1}, r"scores of \(1, 60, 4\) or \(1, 60, 5\)"),
    ({"num_classes": CLASSES + 2}, r"scores of \(1, 60, 7\) or \(1, 60, 8\)"),
  ],
)
def test_outputs_that_do_not_fit_are_refused(change, shapes, raw):
  op = dataclasses.replace(operator("tensorflow", "device"), **change)
  with pytest.raises(UsageError, match=rf"^a file with outputs of \(1, 60, 4\), \(1, 60, 6\) cannot end with .*{shapes}$"):
    append_operator(raw["tensorflow", "none"], op)


def test_a_file_of_one_output_or_of_another_type_is_refused(raw):
  once = append_operator(raw["tensorflow", "none"], operator("tensorflow", "device"))
  with pytest.raises(UsageError, match="cannot end with"):
    append_operator(once, operator("tensorflow", "device"))
  shape = jax.ShapeDtypeStruct((1, 60, 4), np.float32)
  whole = convert(lambda x: (x.astype(np.int32), x[..., :1] @ np.ones((1, 6), np.float32)), shape)
  with pytest.raises(UsageError, match="an output of INT32 cannot end with TFLite_Detection_PostProcess; expected FLOAT32 or"):
    append_operator(whole, operator("tensorflow", "device"))


class Comparison:
  """Takes whatever it is given."""

  def __init__(self):
    self.shapes = []

  def add(self, expected, found):
    self.shapes.append([x.shape for x in found])

  def agreement(self):
    return Agreement(images=len(self.shapes), max_difference=0.0, largest_logit=1.0, snr_db=99.0, top1_agreement=1.0)


@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_the_writer_of_files_appends_the_operator(quantization, tiny, tmp_path, monkeypatch):
  """Ten logits as the codes of one anchor and six scores."""
  one = dataclasses.replace(operator("tensorflow", "evaluate"), anchors=np.full((1, 4), 0.5, np.float32))
  shapes = []
  spec = OutputSpec(
    transform=lambda logits: (logits[:, :4].reshape(1, 1, 4), jax.nn.sigmoid(logits[:, 4:]).reshape(1, 1, 6)),
    tensors=one.tensors(),
    decode=lambda found: found,
    comparison=lambda: shapes.append(Comparison()) or shapes[-1],
    operator=one,
  )
  monkeypatch.setattr(
    tflite, "task_class", lambda a: type("Boxes", (), {"export_outputs": staticmethod(lambda *_, **__: spec)})
  )
  images = np.random.default_rng(0).uniform(-1, 1, (3, *tiny.image_shape)).astype(np.float32)
  options = tflite.TFLiteOptions(quantization=quantization)
  file = tflite.write_tflite(tiny, initialize(network(tiny), 0), tmp_path / "a.tflite", images, options, calibration=images)
  # latencies are compared with a file that does as much
  assert file.ops[NAME] == 1 == TFLiteModel(file.float_content).ops[NAME]
  assert shapes[0].shapes == [[(3, 25, 4), (3, 25), (3, 25), (3,)]]
  assert [t["name"] for t in graph.note((tmp_path / "a.tflite").read_bytes())["output"]] == list(OUTPUTS)


def legacy_resize(pixels, height, width):
  """Bilinear by the definition: pixel i of the result is at i x ratio of the photo."""
  y, x = np.arange(height) * pixels.shape[0] / height, np.arange(width) * pixels.shape[1] / width
  rows, columns = y.astype(int), x.astype(int)
  wide = pixels.astype(float)
  following = np.minimum(rows + 1, len(wide) - 1), np.minimum(columns + 1, wide.shape[1] - 1)
  wide = wide[rows] + (y - rows)[:, None, None] * (wide[following[0]] - wide[rows])
  return wide[:, columns] + (x - columns)[:, None] * (wide[:, following[1]] - wide[:, columns])


@pytest.mark.parametrize("pixels_in", [False, True])
def test_the_documented_reader(pixels_in, tmp_path):
  """On a photo that is stored on its side."""
  rng = np.random.default_rng(1)
  upright = np.asarray(Image.fromarray(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)).resize((140, 90), 3))
  exif = Image.Exif()
  exif[274] = 6
  Image.fromarray(np.rot90(upright).copy()).save(tmp_path / "photo.png", exif=exif)
  (tmp_path / "labels.txt").write_text("a\nб\nc d\ne\nf\n", "utf-8")
  forward, op = detection_files.detector(), operator("tensorflow", "device")
  op = dataclasses.replace(op, score_threshold=0.6)
  normalized = jax.ShapeDtypeStruct((1, 32, 32, 3), np.uint8 if pixels_in else np.float32)

  def network(x):
    x = x.astype(np.float32) / 127.5 - 1 if pixels_in else x
    return operator_inputs(*forward(x), CONVENTIONS["tensorflow"])

  (tmp_path / "a.tflite").write_bytes(append_operator(convert(network, normalized), op))
  words = [sys.executable, "-W", "error", str(ROOT / "experiments" / "read_boxes.py")]
  words += [str(tmp_path / name) for name in ("a.tflite", "photo.png", "labels.txt")]
  done = subprocess.run(words, capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONUTF8": "1"})
  assert done.returncode == 0, done.stderr
  # Pillow cuts off what follows the point
  image = (np.floor(legacy_resize(upright, 32, 32)) / 127.5 - 1).astype(np.float32)
  codes, scores = jax.jit(lambda x: operator_inputs(*forward(x), CONVENTIONS["tensorflow"]))(image[None])
  expected = reference(np.asarray(codes)[0], np.asarray(scores)[0], anchors(), op)
  lines = done.stdout.splitlines()
  assert len(lines) == len(expected) > 3
  for line, (label, score, box) in zip(lines, expected, strict=True):
    said, name, corners = re.fullmatch(r"([\d.]+) (.+): (.+)", line).groups()
    assert name == ["a", "б", "c d", "e", "f"][label] and float(said) == pytest.approx(score, abs=0.02)
    wanted = np.clip(box, 0, 1)[[1, 0, 3, 2]] * [140, 90, 140, 90]
    assert [float(x) for x in corners.split()] == pytest.approx(wanted, abs=1.5)
