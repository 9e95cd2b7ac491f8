"""mnv3 table and mnv3 sweep as people type them."""

import json
import re
import shutil

import pytest
from conftest import ROOT, ended, mnv3

# of V3-Large at 32 px with ten classes
MADDS = 7_087_040


def test_a_table_without_any_run(tmp_path):
  status, out, err = ended("table", "table5", "--runs", tmp_path / "runs")
  assert (status, err) == (0, "")
  assert "V3-Large 1.0   5,483,032  216,589,760" in out and "not run" in out
  assert "mnv3 train --config configs/imagenet.py:mobilenetv3_large" in out
  same = f"--scale imagenet --runs {tmp_path / 'runs'}"
  assert f"All runs that are missing: mnv3 sweep table5 {same} --config.data.dir=IMAGENET\n" in out
  assert f"All latencies that are missing: mnv3 table table5 --measure {same}\n" in out
  assert list(tmp_path.iterdir()) == []


def test_the_kept_runs_of_table_5():
  status, out, err = ended("table", "table5", "--scale", "mini", "--runs", "experiments/results")
  assert (status, err) == (0, "") and "not run" not in out and "not measured" not in out
  assert len(re.findall(r"\d\d\.\d\d ± \d\.\d\d", out)) == 4


@pytest.mark.parametrize("form, start", [("markdown", "# Non-linearities on V3-Large\n"), ("csv", "model,top1,top1_err,")])
def test_other_formats(form, start):
  assert ended("table", "table5", "--format", form)[1].startswith(start)


@pytest.mark.slow
def test_everything_as_a_folder(tmp_path):
  """Every table and plot, with runs and without; and again over the same folder."""
  out = tmp_path / "report"
  for runs in ("nowhere", "experiments/results"):
    status, said, err = ended("table", "--all", "--scale", "mini", "--runs", runs, "--out", out)
    assert (status, err) == (0, "") and str(out / "index.html") in said
    page = (out / "index.html").read_text()
    pictures = re.findall(r'src="([^"]*\.png)"', page)
    assert len(pictures) >= 15 and all((out / picture).stat().st_size > 5000 for picture in pictures)
    assert all((out / link).is_file() for link in re.findall(r'href="([^"#:]+)"', page))
    assert "h-swish@112" in page and "paper only" in page
  assert len(list(out.glob("*.md"))) == 16 and len(list(out.glob("*.csv"))) == 15
  assert "tested on 16,000" in page and "all pools are global here" in page


@pytest.mark.parametrize(
  "words, sentence",
  [
    (("table",), "a NAME or --all is needed"),
    (("table", "tabel5"), "no table 'tabel5'; did you mean 'table5'"),
    (("table", "nowhere.py"), "no file 'nowhere.py'"),
    (("table", "table5", "--all"), "--all goes without table5"),
    (("table", "table5", "--format=csv", "--out=page"), "--format csv goes without --out, which writes every format"),
    (("table", "table5", "--scale", "maxi"), "invalid choice: 'maxi'"),
    (("table", "table5", "--sclae", "mini"), "did you mean '--scale'"),
    (("table", "table5", "--seeds", "0"), "'0' is not a whole number above 0"),
    (("table", "table5", "--out", "README.md"), "expected a folder, it is a file"),
    (("table", "table7", "--scale", "imagenet"), "'imagenet' for tables about mIoU; expected cityscapes or mini"),
    (("sweep", "table5", "--scale", "cityscapes"), "'cityscapes' for tables about top-1; expected imagenet or mini"),
    (("table", "table5", "--cores", "f0"), "go with --measure"),
    (("table", "table5", "--measure", "--cores", "f0"), "--cores goes with --adb"),
    (("sweep",), "a NAME or --all is needed"),
    (
      ("sweep", "--all", "--config.data.dir=/data"),
      "--config.data.dir would be used by imagenet and by coco and by cityscapes",
    ),
    (("sweep", "table5"), "--scale='imagenet' needs the overrides --config.data.dir=IMAGENET"),
    (("sweep", "figure6", "--scale", "mini"), "nothing to run for '"),
    (("sweep", "table5", "--scale", "mini", "--config.train.epoch=3"), "did you mean 'train.epochs'"),
    (("sweep", "table5", "--scale", "mini", "--config.train.seed=3"), "differs between the runs of a table"),
    (("sweep", "table9", "--scale", "mini", "--config.model.width=0.5"), "differs between the runs of a table"),
    (("sweep", "table5", "--config.data.fake=True"), "one random batch"),
    (
      ("sweep", "table5", "--scale", "mini", "--sbatch=--time=1", "--dry_run"),
      "invalid --sbatch='--time=1'; it has options of --engine='slurm'",
    ),
    (("table", "table5", "--config.nosuch.field=3"), "the config has no field"),
    (("sweep", "table5", "--scale", "mini", "--engine", "slrum"), "invalid choice: 'slrum'"),
    (("sweep", "table5", "--scale", "mini", "--retries", "-1"), "invalid --retries=-1; expected a whole number of at least 0"),
    (("sweep", "table5", "--scale", "mini", "--hosts", "2"), "invalid --hosts=2; the local engine has one"),
  ],
)
def test_wrong_use_is_one_sentence(words, sentence, tmp_path):
  status, out, err = ended(*words, "--runs", tmp_path / "runs")
  assert status == 2 and out == "" and sentence in err and err.count("\n") == 1
  assert list(tmp_path.iterdir()) == []


def test_the_plan_says_what_would_run_and_for_how_long(tmp_path):
  done = tmp_path / "mini_poses" / "mobilenetv3_large" / "seed_0"
  done.mkdir(parents=True)
  (done / "result.json").write_text(json.dumps({"seconds": 600.0, "madds": MADDS, "epochs": 12.0}))
  status, out, err = ended("sweep", "table5", "--scale", "mini", "--jobs", "2", "--dry_run", "--runs", tmp_path)
  assert (status, err) == (0, "")
  assert "12 trials, 1 done, 11 to run; this machine, 2 at once (cores " in out
  # three seeds of a row are the row's own; the others go by multiply-adds, which are the same
  assert "1 h 50 min one after the other, 55 min 00 s with 2 at once" in out
  assert "mnv3 train --config configs/poses.py:mobilenetv3_large" in out
  assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["result.json"]


def test_a_sweep_does_not_take_other_runs_for_its_own(tmp_path):
  """What is done with other epochs is not done; it is not trained again in the same place either."""
  shutil.copytree(ROOT / "experiments" / "results" / "mini_poses", tmp_path / "mini_poses")
  words = ("sweep", "table5", "--scale", "mini", "--dry_run", "--runs", tmp_path)
  assert "12 done, 0 to run" in ended(*words)[1]
  status, _, err = ended(*words, "--config.train.epochs=100")
  assert status == 2 and "has config.train.epochs=12.0, not 100.0; expected another --runs DIR" in err


def test_other_files_are_not_written_over(tmp_path):
  (tmp_path / "table5.csv").write_text("mine")
  status, _, err = ended("table", "table5", "--out", tmp_path)
  assert status == 2 and "one with a page of this program" in err and (tmp_path / "table5.csv").read_text() == "mine"


def test_what_tables_share_runs_once(tmp_path):
  out = ended("sweep", "--all", "--scale", "mini", "--seeds", "1", "--dry_run", "--runs", tmp_path)[1]
  trials = re.findall(r"^(\S+)/seed_0 ", out, re.M)
  assert len(trials) == len(set(trials)) >= 45 and trials.count("mobilenetv3_large") == 1


def test_the_plan_of_table_7(tmp_path):
  status, out, err = ended("sweep", "table7", "--scale", "mini", "--dry_run", "--runs", tmp_path)
  assert (status, err) == (0, "") and "22 trials, 0 done, 22 to run" in out
  assert "mnv3 train --config configs/scenes_segmentation.py:mobilenetv2" in out and "--config.model.halved_tail=None" in out
  assert re.search(r"^mobilenetv3_large-rf2-lr_aspp-128/seed_1 +to run", out, re.M)


def test_the_plan_of_table_6(tmp_path):
  status, out, err = ended("sweep", "table6", "--scale", "mini", "--dry_run", "--runs", tmp_path)
  assert (status, err) == (0, "") and "22 trials, 0 done, 22 to run" in out
  assert "mnv3 train --config configs/scenes_detection.py:mobilenetv1" in out and "--config.model.halved_tail=None" in out
  assert re.search(r"^mobilenetv3_small-dagger-ssdlite/seed_1 +to run", out, re.M)


def test_everything_of_a_scale_has_the_tables_that_have_it(tmp_path):
  """Both kinds have a scale mini; ImageNet's has no segmentation."""
  mini = ended("sweep", "--all", "--scale", "mini", "--seeds", "1", "--dry_run", "--runs", tmp_path)[1]
  assert "lr_aspp" in mini and "mobilenetv3_large/seed_0" in mini
  status, imagenet, err = ended("sweep", "--all", "--scale", "imagenet", "--dry_run", "--runs", tmp_path)
  assert (status, err) == (0, "") and "lr_aspp" not in imagenet and "mobilenetv3_large/seed_0" in imagenet


@pytest.mark.nightly
@pytest.mark.slow
def test_a_sweep_of_a_table_of_ones_own(tmp_path):
  """Trained, exported in 8 bits, rendered; again: nothing to do; a row was taken away: that alone."""
  table = tmp_path / "mine.py"
  table.write_text(
    "from mnv3_jax.tables.table import Row, Table\n"
    "def row(name, **more):\n"
    "  return Row(name=name, model='mobilenetv3_small', fields={'width': 0.35}, **more)\n"
    "TABLE = Table(title='Mine', source='me', rows=(row('float'), row('8 bits', quantization='int8')))\n"
  )
  short = ("--config.data.train_split=train[:640]", "--config.data.eval_split=test[:200]", "--config.train.epochs=1")
  words = ("sweep", table, "--scale", "mini", "--seeds", "2", "--jobs", "2", "--runs", tmp_path / "runs", *short)
  done = mnv3(*words)
  assert done.returncode == 0 and "2 of 2 trials done" in done.stdout, done.stdout + done.stderr
  results = sorted((tmp_path / "runs" / "mini_poses").rglob("result.json"))
  assert len(results) == 2 and len(list((tmp_path / "runs" / "mini_poses").rglob("int8.tflite.json"))) == 2
  times = [file.stat().st_mtime for file in results]
  out = ended("table", table, "--scale", "mini", "--seeds", "2", "--runs", tmp_path / "runs")[1]
  assert len(re.findall(r"\d ± \d", out)) == 2 and "not run" not in out
  results[0].unlink()
  assert "1 were before" in mnv3(*words).stdout
  assert [file.stat().st_mtime for file in results][1] == times[1] and results[0].is_file()
