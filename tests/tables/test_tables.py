"""Every table of experiments/: its rows are the networks that they say, and nothing runs twice."""

import dataclasses
import functools
import json
import re
import subprocess
import sys

import pytest
from conftest import ROOT

from mnv3_jax.architectures import cost, fields, printed, printed_detection, sizes, zoo
from mnv3_jax.config_overrides import read_config
from mnv3_jax.errors import UsageError
from mnv3_jax.tables import columns, registry, results, scales, table as tables, trials

TABLES = {name: registry.load_table(name) for name in registry.table_files()}
ROWS = [(name, row) for name, table in TABLES.items() for row in table.published]
TOP1, MIOU, AP = (columns.METRICS[name] for name in ("top1", "miou", "ap"))
MINI, IMAGENET, SCENES = scales.get_scale("mini", TOP1), scales.get_scale("imagenet", TOP1), scales.get_scale("mini", MIOU)
BOXES = scales.get_scale("mini", AP)
PRINTED = json.loads((ROOT / "tests" / "paper_tables.json").read_text())


def test_the_papers_tables_and_figures_are_there_in_order():
  assert list(TABLES) == [
    *("table3", "table4", "table5", "table6", "table7", "table8", "table9"),
    *("figure1", "figure2", "figure5", "figure6", "figure7", "figure8", "figure9", "mobilenetv4_family", "squeeze_excite"),
  ]


def test_one_directory_is_one_network_and_one_network_one_directory():
  networks, keys = {}, {}
  for _, row in ROWS:
    networks.setdefault(row.key, set()).add(row.architecture())
    keys.setdefault(row.architecture(), set()).add(row.key)
  assert {key: len(found) for key, found in networks.items() if len(found) > 1} == {}
  assert [found for found in keys.values() if len(found) > 1] == []
  assert all(len(key) < 100 and "/" not in key for key in networks)


@pytest.mark.parametrize("name", [name for name, table in TABLES.items() if table.rows])
def test_rows_have_names_of_their_own_and_the_reference_is_one_of_them(name):
  table = TABLES[name]
  names = [row.name for row in table.rows]
  assert len(set(names)) == len(names)
  assert table.reference is None or table.row(table.reference).model


def test_rows_without_a_published_network_have_the_papers_figures_alone():
  assert [row.name for row in TABLES["table3"].rows if not row.model] == ["ProxylessNAS", "Mnas-small"]
  assert all(row.paper for table in TABLES.values() for row in table.rows if not row.model)


def test_table_9_has_the_sizes_that_the_release_is_known_by():
  """architectures/printed.py was typed from the same table by its own way."""
  ours = {(r.model, r.architecture().width, r.architecture().resolution): r.paper for r in TABLES["table9"].published}
  compared = 0
  for row in printed.ROWS:
    paper = ours.get((row.model, row.width, row.resolution))
    if paper and "Table 9" in row.source and "params_M" in paper:
      assert paper["params_M"] == row.params and paper["madds_M"] in row.madds.split(" / ")
      compared += 1
  assert compared >= 15


def test_figure_9_is_the_chain_of_development():
  chain = [network for _, network in zoo.mobilenetv3_development()]
  rows = [row.architecture() for row in TABLES["figure9"].rows]
  assert len(chain) == len(rows)
  for ours, step in zip(rows, chain, strict=True):
    assert ours.replace(name="") == step.replace(name="", head=ours.head) and ours.head == step.head


def test_figure_8_has_every_variant_at_every_width():
  rows = TABLES["figure8"].published
  assert len({row.architecture() for row in rows}) == 20
  # activations cost nothing that is counted
  assert len({cost.params(row.architecture()) for row in rows}) == 5


def _rows(name):
  return [dict(zip(PRINTED[name]["columns"], row, strict=True)) for row in PRINTED[name]["rows"]]


def test_table_7_has_what_is_printed():
  for row, n, paper in zip(TABLES["table7"].rows, range(1, 12), _rows("table7_cityscapes_val"), strict=True):
    a = row.architecture()
    assert row.name.startswith(f"{n}: {paper['backbone']}") and paper["N"] == n
    assert (
      a.name == {"V2": "mobilenetv2", "V3": "mobilenetv3_large", "V3-Small": "mobilenetv3_small"}[paper["backbone"].split()[0]]
    )
    assert a.width == float((*paper["backbone"].split(), "1")[1]) and ("RF2" in row.name) == paper["RF2"]
    assert a.head.name == {"R-ASPP": "r_aspp", "LR-ASPP": "lr_aspp"}[paper["SH"]] and a.head.filters == paper["F"]
    assert (a.resolution, a.num_classes) == ((1024, 2048), 19)
    names = {"miou": "mIoU", "params_M": "params_M", "madds_B": "madds_B", "P3_s": "cpu_f_s", "P3_half_ms": "cpu_h_ms"}
    assert {ours: float(text) for ours, text in row.paper.items()} == {ours: paper[theirs] for ours, theirs in names.items()}


def test_table_6_has_what_is_printed():
  for row, shown, paper in zip(TABLES["table6"].rows, printed_detection.ROWS, _rows("table6_ssdlite"), strict=True):
    a = row.architecture()
    assert row.name == shown.name == paper["backbone"] and a == shown.architecture()
    assert (row.family == "V3-Small") == (a.name == "mobilenetv3_small")
    assert (a.resolution, a.num_classes, a.head.convention) == (320, 90, "tensorflow")
    names = {"ap": "mAP", "params_M": "params_M", "madds_B": "madds_B", "phone_ms": "latency_ms"}
    assert {ours: float(text) for ours, text in row.paper.items()} == {ours: paper[theirs] for ours, theirs in names.items()}


def test_table_6_is_counted_as_the_paper_counted_it(tmp_path):
  found = results.collect(TABLES["table6"], tmp_path, scales.get_scale(None, AP))
  assert [(r.params, r.madds) for r in found] == [row.counted() for row in printed_detection.ROWS]
  # with batch norm unfolded and 91 slots none would be
  assert all(cost.params(r.row.architecture()) > r.params for r in found)
  marks = [
    columns.difference(f"{size}_{unit}", getattr(r, size), r.row.paper[f"{size}_{unit}"])
    for r in found
    for size, unit in (("params", "M"), ("madds", "B"))
  ]
  assert list(filter(None, marks)) == ["counted: 0.6131 B MAdds, the paper prints 0.62 B (-1.1%)"]


def test_the_notes_of_table_6_are_so():
  found = re.findall(r"with (\d+) class slots in ([^;]+?)\.?(?:;|$)", TABLES["table6"].notes[0])
  slots = {name: int(number) for number, names in found for name in names.split(", ")}
  assert slots == {row.name: row.slots for row in printed_detection.ROWS}
  below = {row.name: 100 * (row.counted()[1] / 1e9 / float(row.madds) - 1) for row in printed_detection.ROWS}
  assert round(below["V3"], 1) == -1.1 and round(below["V2 0.35"], 1) == 4.2


def test_table_8_has_what_is_printed():
  names = {
    "miou_test": "mIoU",
    "madds_B": "madds_f_B",
    "madds_half_B": "madds_h_B",
    "P3_s": "cpu_f_s",
    "P3_half_ms": "cpu_h_ms",
  }
  for row, paper in zip(TABLES["table8"].rows, _rows("table8_cityscapes_test"), strict=True):
    assert row.name == paper["backbone"] + (f", output stride {paper['OS']}" if paper["OS"] else "")
    expected = {ours: paper[theirs] for ours, theirs in names.items() if paper[theirs] is not None}
    assert {ours: float(text) for ours, text in row.paper.items()} == expected
  assert [row.name for row in TABLES["table8"].rows if not row.model] == ["ESPNetv2", "CCC2", "ESPNetv1"]
  heads = [row.architecture().head for row in TABLES["table8"].published]
  assert [(s.pool, s.gate) for s in heads] == 2 * [("paper", "sigmoid"), ("release", "hard_sigmoid")]


def test_segmenters_have_the_sizes_that_are_printed_and_counted():
  """Parameters to 0.01 M, of V2 to 0.02 M; multiply-adds to 0.5 % of a count by another hand, at two sizes."""
  os32 = [row for row in TABLES["table8"].published if "32" in row.name]
  checked = 0
  for row, known in zip((*TABLES["table7"].rows, *os32), _rows("count_check_seg"), strict=True):
    a, millions = row.architecture(), known["printed_params_M"] or known["count_params_M"]
    assert abs(cost.params(a) / 1e6 - millions) <= (0.02 if row.model == "mobilenetv2" else 0.01), row.name
    for size, name in (((1024, 2048), "count_madds_B_1024x2048"), ((1025, 2049), "count_madds_B_1025x2049")):
      assert cost.madds(a.replace(resolution=size)) / 1e9 == pytest.approx(known[name], rel=0.005), (row.name, size)
      checked += 1
  assert checked == 26


def test_what_the_notes_of_tables_7_and_8_say_of_multiply_adds_is_so():
  """In percent below what is printed, at the sizes that have one more pixel."""

  def below(row, size, printed):
    return 100 * (1 - cost.madds(row.architecture(resolution=size[0], resolution_width=size[1])) / 1e9 / float(printed))

  full = {row.name: below(row, (1025, 2049), row.paper["madds_B"]) for row in TABLES["table7"].rows}
  v2, v3 = (
    [x for name, x in full.items() if name.split(": ")[1].startswith(("V2 ", "V2,") if v == 2 else ("V3 ", "V3,"))]
    for v in (2, 3)
  )
  assert (len(v2), round(min(v2), 1), round(max(v2), 1)) == (6, 0.3, 1.7)
  assert (len(v3), round(min(v3), 1), round(max(v3), 1)) == (4, 1.5, 2.1)
  assert round(full["11: V3-Small RF2, LR-ASPP 128"], 1) == 4.1
  eighth = [
    [below(r, (1025, 2049), r.paper["madds_B"]), below(r, (513, 1025), r.paper["madds_half_B"])]
    for r in TABLES["table8"].published
  ]
  large, small = ([x for pair in pairs for x in pair] for pairs in (eighth[:2], eighth[2:]))
  assert 2.0 <= min(large) and round(max(large), 1) == 2.5
  assert round(min(small), 1) == 4.1 and round(max(small), 1) == 5.5


def test_figures_are_those_of_the_tasks():
  from mnv3_jax.tasks.classification import Classification
  from mnv3_jax.tasks.detection import Detection
  from mnv3_jax.tasks.segmentation import Segmentation

  for task in (Classification, Detection, Segmentation):
    column = columns.METRICS[task.main_metric]
    names = task.main_metric, task.metric_label, task.metric_label.lower()
    assert (column.metric, column.label, column.title.lower()) == names


def test_what_tables_are_about():
  assert {name for name, table in TABLES.items() if table.metric is MIOU} == {"table7", "table8"}
  assert {name for name, table in TABLES.items() if table.metric is AP} == {"table6"}
  tasks = {"top1": "classification", "miou": "segmentation", "ap": "detection"}
  for table in TABLES.values():
    assert {row.architecture().head.task for row in table.published} <= {tasks[table.metric.metric]}


def test_scales_of_tables_about_other_figures():
  assert scales.get_scale(None, TOP1).name == "imagenet" and scales.get_scale(None, MIOU).name == "cityscapes"
  assert scales.get_scale(None, AP).name == "coco"
  assert scales.get_scale("mini", TOP1).config != scales.get_scale("mini", MIOU).config
  assert len({scale.folder for scale in scales.SCALES}) == len(scales.SCALES)
  with pytest.raises(UsageError, match="invalid scale='imagenet' for tables about mIoU; expected cityscapes or mini"):
    scales.get_scale("imagenet", MIOU)


def test_squeeze_excite_changes_parameters_or_the_gate():
  sizes = [cost.params(row.architecture()) for row in TABLES["squeeze_excite"].rows]
  none, sixteenth, eighth, half = sizes[1:5]
  assert none < sixteenth < eighth < sizes[0] < half
  gates = {block.se.gate for block in TABLES["squeeze_excite"].rows[7].architecture().blocks if block.se}
  assert gates == {"sigmoid"} and sizes[7] == sizes[0]


@pytest.mark.slow
@pytest.mark.parametrize("scale", scales.SCALES, ids=lambda scale: scale.folder)
def test_commands_are_of_the_rows_network(scale, tmp_path):
  """Read as train reads it, each command's config has the network of its row, for every row of every table of the scale."""
  rows = {row.key: row for name, row in ROWS if TABLES[name].metric.metric == scale.metric}
  assert len(rows) >= 11
  for row in rows.values():
    (words, result), *_ = trials.run_commands(tmp_path, scale, [row], 7)
    assert words[:3] == ("mnv3", "train", "--config")
    overrides = [word for word in words if word.startswith("--config.")]
    config = read_config(words[3], overrides)
    expected = fields.architecture(row.model, **scale.fields(row), dropout=config.model.dropout)
    found = fields.architecture(**config.model)
    assert found == expected.replace(bn_momentum=found.bn_momentum), row.name
    assert config.train.seed == 7 and result == tmp_path / scale.folder / row.key / "seed_7" / "result.json"


def test_the_mini_scale_of_segmentation_has_the_rows_head_on_small_scenes():
  found = {row.name: SCENES.architecture(row) for name in ("table7", "table8") for row in TABLES[name].published}
  assert {(a.resolution, a.num_classes) for a in found.values()} == {((80, 112), 11)}
  assert {a.head.filters for a in found.values()} == {128, 256}
  last = {name: a.head.pooled((5, 7)) for name, a in found.items() if a.head.pool == "paper"}
  # no kernel fits into the map
  assert set(last.values()) == {1}


def test_the_mini_scale_of_detection_has_the_rows_head_on_small_scenes():
  for row in TABLES["table6"].published:
    a, (words, _) = BOXES.architecture(row), trials.run_commands("runs", BOXES, [row], 0)[0]
    assert (a.resolution, a.num_classes, a.head) == ((96, 128), 10, row.architecture().head)
    assert [found.size for found in a.head.maps(a)][:2] == [(6, 8), (3, 4)] and a.head.maps(a)[-1].size == 1
    # the config has the dagger, which most rows have not
    assert f"--config.model.halved_tail={row.fields['halved_tail']}" in words


def test_a_segmentation_row_of_another_size_is_scaled_too():
  half = dataclasses.replace(TABLES["table7"].rows[7], run="half", fields={**TABLES["table7"].rows[7].fields, **HALF})
  assert SCENES.architecture(half).resolution == (40, 56)
  (words, _), *_ = trials.run_commands("runs", SCENES, [half], 0)
  assert {"--config.model.resolution=40", "--config.model.resolution_width=56"} <= set(words)


HALF = {"resolution": 512, "resolution_width": 1024}


def test_an_8_bit_row_is_trained_and_then_exported(tmp_path):
  (train, result), (export, record) = trials.run_commands(tmp_path, MINI, [TABLES["table4"].rows[0]], 0)
  assert train[1] == "train" and export[1:3] == ("export", "--workdir") and "int8" in export
  assert record == result.parent / "export" / "int8.tflite.json"


def test_resolutions_are_scaled():
  found = {row.fields.get("resolution", 224): MINI.fields(row)["resolution"] for row in TABLES["table9"].rows}
  assert found == {224: 32, 256: 36, 192: 28, 160: 22, 128: 18, 96: 14}
  assert {IMAGENET.fields(row)["resolution"] for row in TABLES["table9"].rows} == {224, 256, 192, 160, 128, 96}


def test_a_table_of_ones_own(tmp_path):
  file = tmp_path / "mine.py"
  file.write_text(
    "from mnv3_jax.tables.table import Row, Table\n"
    "TABLE = Table(title='Mine', source='me', rows=(Row(name='thin', model='mobilenetv3_small', fields={'width': 0.5}),))\n"
  )
  (row,) = registry.load_table(str(file)).rows
  assert row.key == "mobilenetv3_small-width=0.5" and cost.params(row.architecture()) == 1_592_704


HEAD = "from mnv3_jax.tables.table import Row, Table\n"


@pytest.mark.parametrize(
  "content, sentence",
  [
    ("TABLE = 3\n", "does not define TABLE"),
    ("import nothing_of_this_name\n", "ModuleNotFoundError"),
    ("import sys\nTABLE = sys.exit(0)\n", "SystemExit"),
    (f"{HEAD}TABLE = Table(title='T', source='', rows=(Row(name='a')))\n", "expected a tuple of Row"),
    (f"{HEAD}TABLE = Table(title='T', source='', rows=(Row(name='a'), Row(name='a')))\n", "two rows are named 'a'"),
    (
      f"{HEAD}TABLE = Table(title='T', source='', reference='b', rows=(Row(name='a'),))\n",
      "invalid reference='b'; expected a row with a network",
    ),
    (f"{HEAD}TABLE = Table(title='T', source='', columns=('top5',))\n", "invalid column 'top5'"),
    (
      f"{HEAD}TABLE = Table(title='T', source='', columns=('top1', 'miou'))\n",
      "columns have top1 and miou; expected exactly one",
    ),
    (
      f"{HEAD}TABLE = Table(title='T', source='', columns=('ms',))\n",
      "columns have no metric; expected exactly one of top1, miou, ap",
    ),
    (f"{HEAD}Row(name='a', paper={{'top1': 75.2}})\n", "invalid top1=75.2 in paper; expected a number as text"),
    (f"{HEAD}Row(name='a', paper={{'top2': '75.2'}})\n", "invalid key 'top2' in paper"),
    (f"{HEAD}Row(name='a', quantization='int4')\n", "invalid quantization='int4'"),
    (f"{HEAD}Row(name='a', run='../x')\n", "expected the name of a directory"),
    (
      "from mnv3_jax.tables.table import Row\nRow(name='a', model='mobilnet').architecture()\n",
      "unknown model 'mobilnet'",
    ),
  ],
)
def test_a_table_that_is_none(tmp_path, content, sentence):
  file = tmp_path / "mine.py"
  file.write_text(content)
  with pytest.raises(ValueError, match=sentence):
    registry.load_table(str(file))


def test_a_folder_of_experiments_of_ones_own_hides_none_of_ours(tmp_path, monkeypatch):
  (tmp_path / "experiments").mkdir()
  (tmp_path / "experiments" / "mine.py").write_text("TABLE = 3\n")
  monkeypatch.chdir(tmp_path)
  assert set(registry.table_files()) == {*TABLES, "mine"}


def test_quantizations_are_those_of_export():
  from mnv3_jax.export import quantize

  assert tuple(quantize.QUANTIZATIONS) == tables.QUANTIZATIONS


def test_an_unknown_table_names_the_nearest():
  with pytest.raises(UsageError, match="'table5'"):
    registry.load_table("tabel5")


# what a table varies, and a value of it that the network does not have
VARIED = {field for _, row in ROWS for field in row.fields}


def test_fields_that_tables_vary():
  assert VARIED == {
    *("width", "width_rule", "resolution", "h_swish_from", "last_stage", "stem_filters", "expansions"),
    *("se_ratio", "se_of", "se_gate", "se_divisor"),
    *("output_stride", "halved_tail", "head", "head_filters", "head_pool", "head_gate"),
    *("resolution_width", "num_classes"),
  }


# what every segmenter of a table has, and no scale's training
SIZES = {"resolution_width", "num_classes"}


@pytest.mark.slow
@pytest.mark.parametrize("field", sorted(VARIED - SIZES))
def test_a_field_that_a_table_varies_changes_the_network_that_is_trained(field, tmp_path):
  """Config to Flax module: the shapes of parameters, or else what is computed with them."""
  import jax
  import numpy as np

  from mnv3_jax.models.initialize import initialize
  from mnv3_jax.tasks import job

  def commands(scale, row):
    """(config file, words of the row's command, the same without the field's)."""
    (words, _), *_ = trials.run_commands(tmp_path, scale, [row], 0)
    overrides = [word for word in words if word.startswith("--config.")]
    return words[3], overrides, [word for word in overrides if not word.startswith(f"--config.model.{field}=")]

  def network(file, words):
    return fields.architecture(**read_config(file, words).model)

  there = (commands(scales.get_scale("mini", TABLES[name].metric), row) for name, row in ROWS if field in row.fields)
  # a scale's config has what some rows have
  file, overrides, without = next(found for found in there if network(found[0], found[1]) != network(found[0], found[2]))
  assert len(without) == len(overrides) - 1
  jobs = [job.from_config(read_config(file, given)) for given in (overrides, without)]
  found = [(initialize(j.model, 0), (32, *sizes.sides(j.architecture.resolution), 3)) for j in jobs]
  shapes = [(jax.tree.map(np.shape, variables), shape) for variables, shape in found]
  if shapes[0] != shapes[1]:
    return

  # the same parameters: then what is computed with them is something else, of scenes as small as these at the paper's size
  shape = (1, 1024, 2048, 3) if jobs[0].architecture.head.task == "segmentation" else shapes[0][1]
  programs = [
    str(jax.make_jaxpr(functools.partial(j.model.apply, train=False))(variables, jax.ShapeDtypeStruct(shape, np.float32)))
    for j, (variables, _) in zip(jobs, found, strict=True)
  ]
  assert programs[0] != programs[1]


def test_known_tables_are_read_from_a_checkout_wherever_one_stands(tmp_path):
  out = subprocess.run(
    [sys.executable, "-m", "mnv3_jax", "table", "table5", "--format", "csv"],
    cwd=tmp_path,
    env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    capture_output=True,
    text=True,
  )
  assert out.returncode == 0 and out.stdout.count("\n") == 5, out.stderr


@pytest.mark.parametrize("scale", [MINI, SCENES], ids=lambda scale: scale.folder)
def test_json_of_the_kept_runs_is_whole(scale):
  """Kept results are small, and of the networks of some table."""
  keys, folder = {row.key for _, row in ROWS}, ROOT / "experiments" / "results" / scale.folder
  files = [file for file in folder.glob("**/*") if file.is_file()]
  assert len(files) > 20
  for file in files:
    assert file.suffix == ".json" and file.stat().st_size < 10_000
    assert file.relative_to(folder).parts[1].startswith("seed_")
    json.loads(file.read_text())
    assert file.relative_to(folder).parts[0] in keys


def test_every_row_about_segmentation_was_run_at_mini_and_timed():
  for name in ("table7", "table8"):
    for found in results.collect(TABLES[name], ROOT / "experiments" / "results", SCENES):
      if found.row.model:
        assert len(found.values) == 2 and not found.missing and found.ms > 2 * found.ms_half > 0, found.row.name
