"""mnv3 export: writes a .tflite file, or what other runtimes read."""

import dataclasses
import hashlib
import json
import pathlib
import sys
import time

import numpy as np
from PIL import Image

from mnv3_jax.architectures import fields, sizes, zoo
from mnv3_jax.commands.options import Options, add_model_fields, add_workdir, given_fields, positive, start_jax
from mnv3_jax.data.sources import fashion_mnist
from mnv3_jax.errors import UsageError
from mnv3_jax.runs.directory import RunDirectory, write_atomically

EXAMPLE = """mnv3 export --workdir /tmp/run --out small.tflite
  mnv3 export --workdir /tmp/run --quantize int8                       (into /tmp/run/export/)
  mnv3 export --workdir /tmp/large --quantize int8 --data photos/val --preprocess in_graph --labels --out large.tflite
  mnv3 export --model mobilenetv3_large --out large.tflite             (seeded weights: to look at the graph or its latency)
  mnv3 export --model mobilenetv3_large --segmenter lr_aspp --output_stride 16 --resolution 512 --resolution_width 1024 \\
    --num_classes 19 --argmax --out seg.tflite                         (a class for every pixel)
  mnv3 export --workdir /tmp/run --format stablehlo --out small.stablehlo"""

FORMATS = ("tflite", "stablehlo", "saved_model")
# test photos that a network is compared and evaluated on, where these are more than the embedded ones
EVALUATED = 500
# training photos that ranges are found on
CALIBRATION = 200
# of a segmenter, for either; its photos are larger, and each has many pixels: fewer where they would have more than so many
DENSE, DENSE_LEAST, DENSE_PIXELS = 50, 10, 2**24
# photos that are read at a time
READ, READ_DENSE = 200, 5
# where photos are not to be had: embedded ones, in another network's size
BORROWED = 20
# images of a network that has seen none: seeded weights go with random ones; and their pixels, at most
RANDOM, RANDOM_PIXELS = 32, 2**24
# invocations of the new file and of the float one; fewer where they would take more seconds
TIMED, SECONDS = 60, 20
# times the float file's latency that is called slower: less is noise
SLOWER = 1.01


def main(arguments):
  """Runs the verb; see mnv3 export --help."""
  given = options().parse(arguments)
  asked = given_fields(given)
  if bool(given.workdir) == bool(given.model):
    raise UsageError("export takes either --workdir DIR (a trained run) or --model NAME (seeded weights)")
  others = [name for name in asked if name not in ("resolution", "resolution_width")]
  if given.workdir and others:
    raise UsageError(f"--{others[0]} goes with --model; a run of --workdir has its network in its config")
  if given.model and not given.out:
    raise UsageError("--model goes with --out FILE; only a run has a place for its files")
  for name in ("data", "labels", "examples", "calibration"):
    if given.model and getattr(given, name):
      raise UsageError(f"--{name} goes with --workdir; seeded weights have learnt no classes and seen no photo")
  if given.format != "tflite":
    refuse_for_others(given)
  architecture = fields.architecture(given.model, **asked) if given.model else None

  start_jax()
  source = Seeded(architecture) if given.model else Learnt(given)
  if given.format == "tflite":
    write_tflite(given, source)
  else:
    write_portable(given, source)


def options():
  """The verb's options."""
  from mnv3_jax.export.quantize import KINDS

  what = "Writes a .tflite file, after it was found to agree with Flax, and what is known of it to FILE.json."
  options = Options("export", what, EXAMPLE)
  add_workdir(options, required=False)
  options.add_argument("--model", metavar="NAME", help=f"instead of --workdir: {', '.join(zoo.MODELS)} with seeded weights")
  options.add_argument("--out", metavar="FILE", help="what to write (DIR/export/MODEL_KIND.tflite)")
  kinds = "; ".join(f"{kind}: {meaning}" for kind, meaning in KINDS.items())
  options.add_argument("--quantize", choices=tuple(KINDS), default="none", help=f"{kinds} (none)")
  options.add_argument(
    "--calibration",
    type=positive,
    metavar="N",
    help="training photos that 8-bit ranges of activations are found on (200; of a segmenter 10 to 50, by their size)",
  )
  options.add_argument(
    "--data",
    metavar="DIR",
    help="photos to evaluate on, one folder per class, instead of the run's own; ranges too where its training photos are gone",
  )
  options.add_argument(
    "--examples",
    type=positive,
    metavar="N",
    help="test photos to evaluate the file on (500; embedded: all; of a segmenter 10 to 50, by their size)",
  )
  options.add_argument(
    "--preprocess",
    choices=("outside", "in_graph"),
    default="outside",
    help="outside: the file takes what the network takes; in_graph: uint8 pixels, which the file scales itself (outside)",
  )
  options.add_argument(
    "--argmax", action="store_true", help="of a segmenter: the file gives each pixel's class, uint8, in the place of logits"
  )
  options.add_argument("--labels", action="store_true", help="write the names of the classes to FILE.labels.txt too")
  options.add_argument(
    "--unfused",
    action="store_true",
    help="h-swish as an add, a ReLU6 and a product, as in Table 5's runtimes without optimised h-swish",
  )
  options.add_argument(
    "--format", choices=FORMATS, default="tflite", help="stablehlo: for jax.export; saved_model: needs TensorFlow (tflite)"
  )
  add_model_fields(options)
  return options


def refuse_for_others(given):
  """Raises UsageError for options that only a .tflite file can have."""
  tflite_only = {
    "--quantize": given.quantize != "none",
    "--preprocess": given.preprocess != "outside",
    "--argmax": given.argmax,
    "--calibration": given.calibration,
    "--examples": given.examples,
    "--unfused": given.unfused,
    "--labels": given.labels,
  }
  for option, there in tflite_only.items():
    if there:
      raise UsageError(f"{option} goes with --format tflite; --format {given.format} is the network as it is, in float32")


class Seeded:
  """A network with seeded weights, which no photo was shown to."""

  classes, config_hash, workdir, trained, aware, task = (), None, None, False, False, None

  def __init__(self, architecture):
    from mnv3_jax.data.transforms.preprocessing import View
    from mnv3_jax.export.tflite import seeded

    self.architecture, self.view, self.weights = architecture, View(), {"weights": "seeded", "step": 0}
    n = max(4, min(RANDOM, RANDOM_PIXELS // sizes.area(architecture.resolution)))
    self.variables, self.images = seeded(architecture, images=n)
    self.calibrated_on = "random images"

  def compared(self):
    """Images to compare on: batch norm's statistics are of these and others like them."""
    return self.images[:4]

  def calibration(self, n):
    """Images to find ranges on."""
    return self.images[:n]

  def tested(self, examples):
    """No photo has a label."""
    return ()


class Learnt:
  """The weights of a run, and its photos or those of --data."""

  trained = True

  def __init__(self, given):
    from mnv3_jax.data import factory
    from mnv3_jax.training import trained

    run = trained.load(given.workdir, given.weights)
    self.workdir, self.variables, self.classes = given.workdir, run.variables, run.classes
    self.architecture, dataset, self.task = run.job.architecture, run.job.dataset, run.job.task
    self.aware, self.dense = run.config.quantize_aware, self.architecture.segmenter is not None
    if given.data and self.dense:
      raise UsageError(
        f"--data {given.data!r} is not possible; a segmenter is evaluated on the test photos of its own data set"
      )
    size = asked_size(given, self.architecture.resolution)
    if size:
      self.architecture = self.architecture.replace(resolution=size)
      dataset = factory.open_dataset(run.config, size, dense=self.dense)
    self.own, self.data = dataset, given.data
    self.others = factory.photos(given.data, dataset) if given.data else dataset
    self.view = dataset.view
    self.weights = {"weights": run.weights, "step": run.step}
    self.calibrated_on = "training photos"
    config = json.dumps(RunDirectory(given.workdir).config(), sort_keys=True)
    self.config_hash = hashlib.sha256(config.encode()).hexdigest()[:16]

  def tested(self, examples):
    """The test photos as batches, dicts with "image" and "label"; () where there are none."""
    n = examples or few(self.architecture) or (EVALUATED if hasattr(self.others, "open_test") else None)
    try:
      found = Shown(self.others.fewer_tests(n) if n else self.others, READ_DENSE if self.dense else READ)
      return found if any(True for _ in found) else ()
    except UsageError:
      if self.data:
        raise
      return ()

  def compared(self):
    """Images to compare on where there are no test photos."""
    photos, _ = fashion_mnist.load(f"test[:{BORROWED}]")
    return np.stack([self.own.prepare(Image.fromarray(photo)) for photo in photos])

  def calibration(self, n):
    """Images to find ranges on, shown as test photos are."""

    def together(dataset):
      return np.concatenate([batch["image"] for batch in Shown(dataset, READ_DENSE if self.dense else READ)])

    try:
      return together(self.own.tested_on_training(n))
    except UsageError as error:
      if self.data:
        self.calibrated_on = f"photos of {self.data}, on some of which it is evaluated too"
        return together(self.others.fewer_tests(n))
      others = "" if self.dense else "; --data DIR names others, one folder per class"
      raise UsageError(
        f"the ranges of 8-bit activations are found on photos, and those that {str(self.workdir)!r} was trained on cannot be "
        f"read{others} ({error})"
      ) from None


class Shown:
  """The test photos of a data set that can be read, in batches, each time that they are asked for: {"image", "label"}."""

  def __init__(self, dataset, at_a_time=READ):
    self.dataset, self.at_a_time = dataset, at_a_time

  def __iter__(self):
    for batch in self.dataset.eval_batches(self.at_a_time):
      there = batch["mask"] > 0
      if there.any():
        yield {name: batch[name][there] for name in ("image", "label")}


def few(architecture):
  """How many photos of a segmenter are enough; None of a classifier."""
  if not architecture.segmenter:
    return None
  return min(DENSE, max(DENSE_LEAST, DENSE_PIXELS // sizes.area(architecture.resolution)))


class Judged:
  """A task's figure of Flax and of a file on the same photos.

  Of a run that is aware of 8 bits, Flax rounds as it was trained to.

  Args:
    task: of the run, tasks/classification.py or tasks/segmentation.py.
  """

  def __init__(self, task):
    import jax

    self.task, self.sums, self.totals = task, jax.jit(task.sums), {"flax": {}, "file": {}}

  def heard(self, batch, expected, found):
    """Adds a batch: logits of Flax; logits or classes of the file."""
    from mnv3_jax.training import sums

    if found.ndim < expected.ndim:
      found = np.eye(expected.shape[-1], dtype=np.float32)[found]
    for total, logits in zip(self.totals.values(), (expected, found), strict=True):
      sums.add(total, self.sums(logits, {"label": batch["label"]}))

  def accuracy(self):
    """{"examples", "figure": what it is, "flax", "file"}; None where there was no photo."""
    figures = {name: self.task.figures(total) for name, total in self.totals.items() if total}
    if not figures:
      return None
    best = self.task.best
    return {"examples": figures["file"]["count"], "figure": best, **{name: f[best] for name, f in figures.items()}}


def asked_size(given, own):
  """The size that the command line asks for; None where it asks for none."""
  if given.resolution is None and given.resolution_width is None:
    return None
  height = given.resolution or sizes.sides(own)[0]
  return sizes.of(height, given.resolution_width or height)


def write_tflite(given, source):
  """Exports, measures, prints, and writes FILE.json."""
  from mnv3_jax.export import record, tflite as exporting
  from mnv3_jax.export.quantize import CALIBRATED

  began = time.monotonic()
  a, kind = source.architecture, given.quantize
  out = pathlib.Path(given.out or default_name(source, given))
  if given.calibration and kind not in CALIBRATED:
    raise UsageError(f"--calibration goes with --quantize {' or '.join(CALIBRATED)}; {kind} needs no ranges of activations")
  if kind == "int8_integer" and given.unfused:
    raise UsageError("--unfused goes with the other kinds; int8_integer never has h-swish as one operator")
  if given.argmax and not a.segmenter:
    raise UsageError(f"--argmax goes with a segmenter, whose pixels have classes; {a.name} is a classifier")
  tested = source.tested(given.examples)
  ranges = source.calibration(given.calibration or few(a) or CALIBRATION) if kind in CALIBRATED else ()
  judged = Judged(source.task) if tested else None
  if given.labels and not source.classes:
    raise UsageError(f"--labels: {str(source.workdir)!r} has no names of classes; import --classes FILE gives them")
  note = {"model": a.name, "config": source.config_hash, **source.weights, "classes": list(source.classes)}
  note |= {"mean": list(source.view.mean), "std": list(source.view.std)}
  e = exporting.export(
    a,
    source.variables,
    out,
    tested or source.compared(),
    kind=kind,
    calibration=ranges,
    view=source.view if given.preprocess == "in_graph" else None,
    fused=not given.unfused,
    argmax=given.argmax,
    note=note,
    aware=source.aware,
    trained=source.trained,
    heard=judged.heard if judged else None,
  )
  found = {
    "file": out.name,
    "kind": kind,
    "fused": not given.unfused and kind != "int8_integer",
    "quantize_aware": source.aware,
    "bytes": e.size,
    "ops": e.ops,
    "tensors": e.tensors,
    "partitions": e.partitions,
    "outside": e.outside,
    "agreement": dataclasses.asdict(e.agreement),
    "calibration": {"images": len(ranges), "of": source.calibrated_on} if len(ranges) else None,
    "accuracy": judged.accuracy() if judged else None,
    "note": e.note,
  }
  # an earlier file of this name was another one: what was measured of it goes
  found = record.with_latency(found, *latency(e, given.unfused))
  found["seconds"] = round(time.monotonic() - began, 2)
  record.write(out, found)
  if given.labels:
    write_atomically(out.with_name(out.name + ".labels.txt"), "".join(f"{name}\n" for name in source.classes))
  say(out, found, source.task)


def default_name(source, given):
  """Where a run keeps such a file."""
  parts = [source.architecture.name, given.quantize if given.quantize != "none" else "float32"]
  parts += [given.weights] if given.weights != "ema" else []
  size = asked_size(given, source.architecture.resolution)
  parts += [f"{'x'.join(dict.fromkeys(map(str, sizes.sides(size))))}px"] if size else []
  parts += ["unfused"] if given.unfused else []
  parts += ["pixels"] if given.preprocess == "in_graph" else []
  parts += ["argmax"] if given.argmax else []
  return pathlib.Path(source.workdir) / "export" / f"{'_'.join(parts)}.tflite"


def latency(exported, unfused):
  """(this machine, milliseconds on it with 1 thread, the ratio to the float file, both timed in turn, and noise)."""
  from mnv3_jax.latency.timing import Host, ratio

  host = Host()
  files = {"file": exported.content}
  if exported.kind != "none" or unfused:
    files["float"] = exported.float_content
  ms = host.measure(files, 1, warmup=1)
  runs = round(min(TIMED, max(4, 1000 * SECONDS / sum(m.median_ms for m in ms.values()))))
  rounds = host.rounds(files, runs, warmup=min(10, runs))
  found = dataclasses.asdict(host.latency(rounds["file"]))
  if "float" in rounds:
    found["ratio_to_float"] = dataclasses.asdict(ratio(rounds["file"], rounds["float"]))
  found["waited"] = round(host.waited, 3)
  return host.describe(), found


def say(out, found, task=None):
  """Prints what is in FILE.json as people read it."""
  from mnv3_jax.export import record
  from mnv3_jax.latency.timing import WAITED

  agrees, (timed,) = found["agreement"], found["latencies"]
  print(
    f"{out}: {found['bytes'] / 1e6:.2f} MB, {sum(found['ops'].values())} operators, XNNPACK partitions: {found['partitions']}"
  )
  print("  " + ", ".join(f"{n} {op}" for op, n in found["ops"].items()))
  if found["outside"]:
    print("  not run by XNNPACK: " + ", ".join(f"{n} {op}" for op, n in found["outside"].items()))
  of = " of the pixels" if len(found["note"]["output"]["shape"]) > 2 else ""
  if agrees["snr_db"] is None:
    print(
      f"  against Flax on {agrees['images']} images: same class on {agrees['top1_agreement']:.3%}{of}, elsewhere one whose "
      f"logit is at most {agrees['max_difference']:.1e} below the first's (largest logit {agrees['largest_logit']:.1f})"
    )
  else:
    print(
      f"  against Flax on {agrees['images']} images: largest difference {agrees['max_difference']:.1e} (largest logit "
      f"{agrees['largest_logit']:.1f}), signal over noise {agrees['snr_db']:.0f} dB, same first class on "
      f"{agrees['top1_agreement']:.1%}{of}"
    )
  if found["accuracy"]:
    a = found["accuracy"]
    print(f"  {task.called} on {a['examples']:,} test photos: {a['file']:.4f}, Flax {a['flax']:.4f}")
  ratio = timed.get("ratio_to_float")
  noisy = timed["waited"] > WAITED
  beside = f", {ratio['median']:.2f} times the float file's" if ratio else ""
  busy = f" (noisy: other processes had the processor for {timed['waited']:.0%} of the time)" if noisy else ""
  print(f"  latency here: median {timed['median_ms']:.3f} ms, 1 thread{beside}{busy}; all of this in {record.place(out)}")
  if ratio and ratio["median"] > SLOWER:
    print(
      f"mnv3: {out} is slower than the float file here ({ratio['median']:.2f} times, quartiles {ratio['p25']:.2f} to "
      f"{ratio['p75']:.2f}); benchmark it where it is to run",
      file=sys.stderr,
    )


def write_portable(given, source):
  """Exports to another format and prints how to run it."""
  from mnv3_jax.export import portable

  out = given.out or str(pathlib.Path(source.workdir) / "export" / f"{source.architecture.name}.{given.format}")
  tested = source.tested(4)
  images = next(iter(tested))["image"][:4] if tested else source.compared()[:4]
  write, how = {
    "stablehlo": (portable.stablehlo, f"jax.export.deserialize(bytearray(open({out!r}, 'rb').read())).call(images)"),
    "saved_model": (portable.saved_model, f"tf.saved_model.load({out!r}).signatures['serving_default'](input=images)"),
  }[given.format]
  difference = write(source.architecture, source.variables, out, images)
  print(f"{out}: {given.format}, any number of images (n, {', '.join(map(str, images.shape[1:]))}) float32")
  print(f"  against Flax on {len(images)} images: largest difference {difference:.1e}")
  print(f"  {how}")
