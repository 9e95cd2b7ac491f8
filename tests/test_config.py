"""The config: every field changes something, every impossible value is named."""

import json

import pytest
from tiny_run import last_state, tiny_config, tiny_job

from mnv3_jax.architectures import fields
from mnv3_jax.architectures.heads import LRASPPHead
from mnv3_jax.architectures.spec import ArchitectureError
from mnv3_jax.commands.options import Options, add_model_fields, given_fields
from mnv3_jax.config import base, check, from_dict, migrate
from mnv3_jax.config_files import get_config
from mnv3_jax.config_overrides import read_config
from mnv3_jax.errors import UsageError
from mnv3_jax.runs.directory import RunDirectory
from mnv3_jax.runs.run import Run
from mnv3_jax.tasks import job as jobs
from mnv3_jax.training import parallel
from mnv3_jax.training.loop import train

# what only photos in files are shown by, another schedule, and a search space: tests/data, training and search change these
ELSEWHERE = {"data.crop", "data.interpolation", "data.broken_limit", "data.max_boxes", "optim.power"}
ELSEWHERE |= {"supernet.space", "supernet.random", "distill.teacher", "distill.weight", "distill.temperature"}

# another value for every field; "tests/architectures/test_fields.py" has those of the network itself
OTHER = {
  "model.bn_group": 4,
  "model.dtype": "bfloat16",
  "data.dataset": "cifar10",
  "data.train_split": "train[:90]",
  "data.eval_split": "test[:40]",
  "data.augment": "none",
  "data.fake": True,
  "data.dir": "photos",
  "data.train_size": 48,
  "data.train_width": 64,
  "data.classes": ("Bag", "Coat"),
  "data.mean": (0.485, 0.456, 0.406),
  "data.std": (0.229, 0.224, 0.225),
  "optim.name": "sgd",
  "optim.lr": 0.02,
  "optim.batch_reference": 32,
  "optim.momentum": 0.5,
  "optim.decay": 0.5,
  "optim.epsilon": 0.1,
  "optim.l2": 0.1,
  "optim.l2_depthwise": True,
  "optim.l2_all": True,
  "optim.schedule": "cosine",
  "optim.decay_rate": 0.5,
  "optim.decay_epochs": 2.0,
  "optim.weight_decay": 0.1,
  "optim.warmup": 0.0,
  "optim.warmup_from": 0.5,
  "optim.lr_groups": "stem=0.5",
  "optim.layer_decay": 0.5,
  "optim.ema": 0.5,
  "train.batch_size": 20,
  "train.epochs": 2.0,
  "train.steps": 10,
  "train.seed": 1,
  "train.init": "another",
  "train.label_smoothing": 0.1,
  "train.accumulate": 2,
  "train.parallel": "pmap",
  "train.log_every": 3,
  "evaluate.batch_size": 7,
  "evaluate.every": 2.0,
  "checkpoint.every": 1.0,
  "checkpoint.keep": 1,
  "quantize_aware": True,
}


def all_fields():
  sections = {name: values for name, values in base().items() if hasattr(values, "items")}
  return {f"{s}.{name}" for s, values in sections.items() for name in values} | base().keys() - sections.keys()


def test_no_field_is_forgotten():
  network = {f"model.{f}" for f in fields.FIELDS if f not in fields.COMPUTE_FIELDS}
  assert set(OTHER) | network | ELSEWHERE | {"model.name"} == all_fields()


# what stays behind when a tiny network is trained; l2 on depthwise kernels needs an l2 to be seen
START = {"checkpoint.keep": 4, "optim.l2": 1e-3, "optim.decay_epochs": 1.0, "optim.decay_rate": 0.9, "train.epochs": 2.5}


def outcome(workdir, monkeypatch, changes):
  """Everything that a run leaves, and what it asked for on the way; or the sentence that refuses it."""
  used = {"modes": [], "eval": []}
  try:
    config = tiny_config(**{**START, **changes})
    check(config)
    job = tiny_job(config)
    for name, mode in (("shard_map", parallel.ShardMap), ("pmap", parallel.Pmap)):
      monkeypatch.setitem(parallel.MODES, name, lambda name=name, mode=mode: used["modes"].append(name) or mode())
    real = job.dataset.eval_batches
    dataset = getattr(job.dataset, "real", job.dataset)
    object.__setattr__(dataset, "eval_batches", lambda n: used["eval"].append(n) or real(n))
    train(config, workdir, job)
  except UsageError as error:
    assert not (workdir / "config.json").exists()
    return str(error)
  step, leaves = last_state(workdir)
  metrics = [{k: v for k, v in m.items() if k not in ("seconds", "speed")} for m in RunDirectory(workdir).metrics()]
  kept = sorted(p.name for p in (workdir / "checkpoints").iterdir())
  return step, {k: v.tobytes() for k, v in leaves.items()}, json.dumps(metrics), kept, used


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
  """The outcome without a change."""
  with pytest.MonkeyPatch.context() as patch:
    return outcome(tmp_path_factory.mktemp("usual"), patch, {})


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.parametrize("field", sorted(OTHER))
def test_every_field_changes_the_run(field, usual, tmp_path, monkeypatch):
  found = outcome(tmp_path, monkeypatch, {field: OTHER[field]})
  assert found != usual
  if field in ("train.parallel", "evaluate.batch_size", "checkpoint.keep", "train.log_every"):
    # these change how, not what: the same parameters to the bit, or to rounding under pmap
    assert found[0] == usual[0]
    assert field == "train.parallel" or found[1] == usual[1]


def test_the_same_outcome_twice(usual, tmp_path, monkeypatch):
  assert outcome(tmp_path, monkeypatch, {}) == usual


def test_the_network_of_a_config():
  config = read_config("configs/fashion_mnist.py", ["--config.model.width=0.5", "--config.model.h_swish_from=112"])
  a = jobs.from_config(config).architecture
  assert (a.name, a.width, a.num_classes) == ("mobilenetv3_small", 0.5, 10)
  assert {b.activation for b in a.blocks} == {"relu"}
  config.model.num_classes = 12
  assert jobs.from_config(config).architecture.num_classes == 12
  config.model.num_classes = 9
  with pytest.raises(UsageError, match="has 10 classes"):
    jobs.from_config(config)


def test_a_config_survives_json():
  config = read_config("configs/fashion_mnist.py:mobilenetv3_large", ["--config.model.minimalistic=True"])
  again = from_dict(json.loads(json.dumps(config.to_dict())), "config.json")
  assert again.to_dict() == config.to_dict() and again.model.minimalistic is True
  # a run of before there were these fields
  older = {name: values for name, values in config.to_dict().items() if name != "quantize_aware"}
  older["optim"] = {name: value for name, value in older["optim"].items() if name not in ("warmup_from", "l2_all")}
  assert from_dict(older, "config.json").to_dict() == config.to_dict()
  with pytest.raises(UsageError, match=r"unknown field train.epoch"):
    from_dict({"train": {"epoch": 3}}, "config.json")
  with pytest.raises(UsageError, match=r"unknown field pruned"):
    from_dict({"pruned": True}, "config.json")
  with pytest.raises(UsageError, match=r"unknown field prune.share"):
    from_dict({"prune": {"share": 0.5}}, "config.json")


def test_a_field_without_a_section_is_a_flag_too():
  config = read_config("configs/fashion_mnist.py", ["--config.quantize_aware=True"])
  assert config.quantize_aware is True
  with pytest.raises(UsageError, match=r"invalid config\.quantize_aware='often'; expected true or false"):
    read_config("configs/fashion_mnist.py", ["--config.quantize_aware=often"])
  with pytest.raises(UsageError, match=r"init=DIR"):
    check(config)
  config.train.init = "a run"
  check(config)
  config.model.dtype = "bfloat16"
  with pytest.raises(UsageError, match=r"bfloat16"):
    check(config)


@pytest.mark.parametrize(
  "content",
  [
    {"train": 3},
    {"optim": {"momentum": "x"}},
    {"train": {"parallel": "pjit"}},
    {"quantize_aware": {"bits": 8}},
    {"quantize_aware": "x"},
  ],
)
def test_a_damaged_config_is_named(content):
  with pytest.raises(UsageError):
    from_dict(content, "config.json")


@pytest.mark.parametrize(
  "body", ["pass", "return {}", "c = base(); c.optim.learning_rate = 1.0; return c", "return ConfigDict()"]
)
def test_a_config_file_with_other_fields_is_refused(body, tmp_path):
  file = tmp_path / "mine.py"
  file.write_text(f"from ml_collections import ConfigDict\nfrom mnv3_jax.config import base\ndef get_config():\n  {body}\n")
  with pytest.raises(UsageError, match=r"mine\.py"):
    read_config(str(file), [])


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    ({"optim.schedule": "cosin"}, "did you mean 'cosine'"),
    ({"optim.name": "adam"}, "did you mean 'adamw'"),
    ({"train.parallel": "pjit"}, "shard_map"),
    ({"train.batch_size": 0}, "at least 1"),
    ({"optim.lr": 0.0}, "above 0"),
    ({"optim.ema": 1.0}, "below 1"),
    ({"optim.lr": float("nan")}, "above 0"),
    ({"train.epochs": float("inf")}, "above 0"),
    ({"train.seed": 2**40}, "below 4294967296"),
    ({"train.label_smoothing": -0.1}, "at least 0"),
    ({"train.epochs": 0.0}, "above 0"),
    ({"checkpoint.keep": 0}, "at least 1"),
    ({"train.accumulate": 0}, "at least 1"),
    ({"optim.weight_decay": 0.1}, "adamw"),
    ({"optim.warmup_from": 1.0}, "below 1"),
    ({"optim.warmup_from": -0.1}, "at least 0"),
  ],
)
def test_impossible_values_are_named(changes, words):
  config = tiny_config(**changes)
  ((field, value),) = changes.items()
  with pytest.raises(UsageError) as error:
    check(config)
  assert f"invalid config.{field}={value!r}" in str(error.value) and words in str(error.value)


def test_none_takes_back_what_a_config_file_says_of_its_network():
  config = read_config("configs/scenes_segmentation.py:mobilenetv3_large", ["--config.model.halved_tail=None"])
  assert config.model.halved_tail is None and config.model.head == "lr_aspp"
  assert read_config("configs/fashion_mnist.py", ["--config.model.resolution=None"]).model.resolution is None
  with pytest.raises(ValueError, match=r"invalid config\.train\.epochs='None'; expected a number"):
    read_config("configs/fashion_mnist.py", ["--config.train.epochs=None"])


@pytest.fixture
def unnoted(monkeypatch):
  """A process that has noted no old name yet."""
  monkeypatch.setattr(fields, "_noted", set())


NOTES = """\
mnv3: config.model.segmenter is now config.model.head
mnv3: config.model.segmenter_filters is now config.model.head_filters
"""
TOGETHER = (
  "mnv3: config.model.segmenter is now config.model.head, config.model.segmenter_filters is now config.model.head_filters\n"
)
OLD = {"name": "mobilenetv3_small", "segmenter": "lr_aspp", "segmenter_filters": 8, "segmenter_pool": None}


def test_old_names_on_the_command_line_and_in_files(unnoted, capsys):
  words = ["--config.model.segmenter=r_aspp", "--config.model.segmenter_filters=8", "--config.model.segmenter_pool=None"]
  config = read_config("configs/scenes_segmentation.py", [*words[:2], *words])
  assert (config.model.head, config.model.head_filters, config.model.head_pool) == ("r_aspp", 8, None)
  out = capsys.readouterr()
  assert out.out == "" and out.err.startswith(NOTES)
  assert out.err.count("\n") == 3, "one line for each field, once"
  config = base()
  config.model.update({"segmenter": "lr_aspp"})
  config.model.segmenter_filters = 16
  config.model["segmenter_pool"] = "global"
  assert (config.model.head, config.model.head_filters, config.model.head_pool) == ("lr_aspp", 16, "global")
  assert config.model.segmenter == config.model["segmenter"] == "lr_aspp" and "segmenter" not in config.model
  with pytest.raises(AttributeError):
    config.model.segmenters = "lr_aspp"


def test_what_an_earlier_version_wrote_is_read(unnoted, capsys):
  config = from_dict({"model": OLD}, "config.json")
  assert fields.architecture(**config.model) == fields.architecture("mobilenetv3_small", head="lr_aspp", head_filters=8)
  assert capsys.readouterr().err == TOGETHER, "one line for a file"
  from_dict({"model": OLD}, "config.json")
  unset = {"model": {"name": "mobilenetv3_small", "segmenter": None, "segmenter_filters": None}}
  assert migrate(unset) == {"model": {"name": "mobilenetv3_small", "head": None, "head_filters": None}}
  assert migrate({"model": 3}) == {"model": 3}, "from_dict says what is damaged"
  assert capsys.readouterr().err == ""


def test_old_names_of_fields_are_noted_once(unnoted, capsys):
  assert fields.architecture(**OLD).head == LRASPPHead(filters=8)
  assert fields.with_current_names(OLD, quiet=True)["head"] == "lr_aspp"
  assert capsys.readouterr().err == TOGETHER
  with pytest.raises(ArchitectureError, match="leave out segmenter"):
    fields.architecture("mobilenetv3_small", head="r_aspp", segmenter="lr_aspp")


def test_old_flags_are_read_and_not_shown(unnoted, capsys):
  options = Options("summary", "", "")
  add_model_fields(options)
  given = options.parse(["--segmenter", "lr_aspp", "--segmenter_filters=8"])
  assert given_fields(given) == {"head": "lr_aspp", "head_filters": 8}
  assert capsys.readouterr().err == NOTES and "--segmenter" not in options.format_help()


@pytest.mark.parametrize(
  ("field", "value", "sentence"),
  [
    ("train.epochs", None, "expected a number"),
    ("train.epochs", float("nan"), "expected above 0"),
    ("train.batch_size", True, "expected a whole number"),
    ("train.batch_size", 10**30, "expected a whole number"),
    ("train.batch_size", 10**12, "take more than 1,024 GB"),
    ("optim.lr", 10**400, "expected a number"),
    ("model.resolution", 10**7, "expected at most 65,536 px"),
    ("model.num_classes", 10**12, "parameters; expected at most"),
    ("data.dir", None, "expected a string"),
    ("data.classes", ((),), "expected names"),
  ],
)
def test_values_without_a_meaning(field, value, sentence):
  with pytest.raises(UsageError, match=sentence):
    config = get_config("fashion_mnist", {field: value})
    check(config)


@pytest.mark.parametrize(
  "content",
  [
    b"",
    b"[" * 100_000,
    b'{"train": {"epochs": 1}, "train": {}}',
    b'{"train": 3}',
    b"\xff\xfe{",
    b'{"train": {"epochs": NaN}}',
    b"[]",
  ],
)
def test_a_damaged_config_file(content, tmp_path):
  (tmp_path / "config.json").write_bytes(content)
  with pytest.raises(UsageError):
    Run(tmp_path).config  # noqa: B018


@pytest.mark.parametrize(
  ("field", "text", "value"),
  [
    ("data.classes", "banana,apple", ("banana", "apple")),
    ("data.classes", "banana, apple,", ("banana", "apple")),
    ("data.classes", "(a,b)", ("a", "b")),
    ("data.classes", "['T-shirt/top', \"it's\"]", ("T-shirt/top", "it's")),
    ("data.classes", '"tench, Tinca tinca",goldfish', ("tench, Tinca tinca", "goldfish")),
    ("data.classes", "001,1", ("001", "1")),
    ("data.classes", "hen", ("hen",)),
    ("data.classes", "()", ()),
    ("data.classes", "", ()),
    ("data.mean", "0.5,0.4,0.3", (0.5, 0.4, 0.3)),
    ("data.mean", "(1, 0, 0)", (1.0, 0.0, 0.0)),
    ("data.mean", "None", None),
  ],
)
def test_lists_on_the_command_line(field, text, value):
  assert read_config("fashion_mnist", [f"--config.{field}={text}"])[field.split(".")[0]][field.split(".")[1]] == value


@pytest.mark.parametrize(
  ("field", "text", "words"),
  [
    ("data.classes", "a,,b", "expected names, as in cat,dog"),
    ("data.classes", "'a", "quotes go around a name with a comma"),
    ("data.std", "wide,1,1", "expected numbers, as in 0.5,0.5,0.5"),
  ],
)
def test_lists_that_cannot_be_read(field, text, words):
  with pytest.raises(UsageError, match=words):
    read_config("fashion_mnist", [f"--config.{field}={text}"])


@pytest.mark.parametrize(
  ("word", "sentence"),
  [
    ("model.width_rule=slim", "config.model.width_rule='slim' has an effect only with config.model.width"),
    ("model.atrous=torchvision", "has an effect only with config.model.output_stride"),
    ("optim.power=2.0", "config.optim.power=2.0 has an effect only with config.optim.schedule=poly"),
  ],
)
def test_a_field_without_effect_is_refused(word, sentence):
  with pytest.raises(UsageError, match=sentence):
    read_config("configs/fashion_mnist.py", [f"--config.{word}"])


def test_where_a_warm_up_begins_is_no_field_without_one():
  words = ["--config.optim.warmup=0", "--config.optim.warmup_from=0.1"]
  assert read_config("configs/fashion_mnist.py", words[1:]).optim.warmup_from == 0.1
  with pytest.raises(UsageError, match=r"config\.optim\.warmup_from=0\.1 has an effect only with config\.optim\.warmup"):
    read_config("configs/fashion_mnist.py", words)


def test_a_field_with_its_other_is_taken():
  words = [
    "--config.model.width_rule=slim",
    "--config.model.width=0.5",
    "--config.optim.schedule=poly",
    "--config.optim.power=2.0",
  ]
  assert read_config("configs/fashion_mnist.py", words).model.width_rule == "slim"
