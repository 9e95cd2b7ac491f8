"""The Python API of sweeps: plans, results and errors."""

import re
import sys

import pytest
from conftest import ROOT

from mnv3_jax.errors import UsageError
from mnv3_jax.sweeps.trial import Trial
from mnv3_jax.tables import sweep as sweeps
from mnv3_jax.tables.sweep import sweep
from mnv3_jax.tables.table import Row, Table


@pytest.fixture(autouse=True)
def checkout(monkeypatch):
  monkeypatch.chdir(ROOT)


def test_a_dry_run_returns_the_trials_and_changes_nothing(tmp_path):
  result = sweep("table5", scale="mini", seeds=1, runs=tmp_path, dry_run=True)
  assert repr(result) == f"<SweepResult: 4 trials, 0 done, 0 failed, 4 unfinished; logs in {str(tmp_path / 'logs' / 'mini')!r}>"
  assert set(result.states.values()) == {"queued"} and result.unfinished == [trial.name for trial in result.trials]
  assert result.hours == pytest.approx(sum(trial.hours for trial in result.trials))
  assert "4 trials, 0 done, 4 to run; this machine, 1 at once" in result.plan() and "4 trials, 0 done" in str(result)
  assert list(tmp_path.iterdir()) == []


def test_overrides_are_values_or_words(tmp_path):
  values = sweep("table5", scale="mini", runs=tmp_path, overrides={"train.epochs": 2.0}, dry_run=True)
  words = sweep("table5", scale="mini", runs=tmp_path, overrides=["--config.train.epochs=2.0"], dry_run=True)
  assert values == words and values.trials[0].commands[0][-1] == "--config.train.epochs=2.0"


def test_tables_are_names_values_or_several_and_share_their_runs(tmp_path):
  mine = Table(title="Mine", source="me", rows=(Row(name="large", model="mobilenetv3_large"),))
  names = [trial.name for trial in sweep(mine, scale="mini", seeds=1, runs=tmp_path, dry_run=True).trials]
  assert names == ["mobilenetv3_large/seed_0"]
  both = sweep([mine, "table5"], scale="mini", seeds=1, runs=tmp_path, dry_run=True)
  assert len(both.trials) == 4 and both.trials[0].name == names[0]
  assert len(sweep(None, scale="mini", seeds=1, runs=tmp_path, dry_run=True).trials) > 40


def test_a_sweep_runs_and_says_what_failed(tmp_path, monkeypatch, capsys):
  def trials(*_, **__):
    def trial(name, code):
      return Trial(name=name, directory=tmp_path, commands=((sys.executable, "-c", code),), results=(tmp_path / name,))

    return [trial("good", f"open({str(tmp_path / 'good')!r}, 'w')"), trial("bad", "import sys; sys.exit('no luck')")]

  monkeypatch.setattr(sweeps, "trials", trials)
  result = sweep("table5", scale="mini", runs=tmp_path, jobs=2)
  assert (result.done, result.failed, result.unfinished) == (["good"], ["bad"], [])
  assert "bad: no luck" in capsys.readouterr().out and re.search(r"bad +failed", str(result))
  assert (result.logs / "bad.log").is_file() and "1 done, 1 failed, 0 unfinished" in repr(result)


@pytest.mark.parametrize(
  "arguments, sentence",
  [
    ({"engine": "slrum"}, "invalid engine='slrum'; did you mean 'slurm'?"),
    ({"jobs": 0}, "invalid jobs=0; expected a whole number of at least 1"),
    ({"retries": -1}, "invalid retries=-1; expected a whole number of at least 0"),
    ({"hosts": 2}, "invalid hosts=2; the local engine has one, engine='ray' and engine='slurm' have several"),
    ({"sbatch": "--time=1"}, "invalid sbatch='--time=1'; it has options of engine='slurm', not of engine='local'"),
    ({"runs": "README.md"}, "invalid runs='README.md'; expected a directory, it is a file"),
    ({"overrides": {"data.fake": True}}, "invalid data.fake=True; expected False"),
    ({"overrides": {"train.epoch": 3}}, "did you mean 'train.epochs'"),
    ({"scale": "imagenet", "dry_run": False}, "scale='imagenet' needs the overrides --config.data.dir=IMAGENET"),
    ({"tables": "figure6"}, "nothing to run for "),
    ({"tables": "tabel5"}, "no table 'tabel5'; did you mean 'table5'?"),
  ],
)
def test_errors_name_python_arguments(arguments, sentence, tmp_path):
  with pytest.raises(UsageError, match=re.escape(sentence)):
    sweep(**{"tables": "table5", "scale": "mini", "runs": tmp_path, "dry_run": True, **arguments})
  assert list(tmp_path.iterdir()) == []
