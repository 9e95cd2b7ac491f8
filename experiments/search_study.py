"""Every network of a small search space trained once: samplers, rewards and a supernet judged by them; and the docs' tables.

python experiments/search_study.py FOLDER   runs in FOLDER what experiments/results/search/ lacks (all: about two hours on two
                                            cores; killed, the same command goes on), and keeps the figures there, a file a part
python experiments/search_study.py          writes tables and plot anew from these

The space has 216 networks around MobileNetV3-Small at 32 px. Each is trained for a few epochs on 90 % of the training photos
and judged by the rest, so that any search by samples can be replayed. A supernet of the same space is trained once, and judges
all of them by its weights; 20 of them are trained longer, with two seeds.
"""

import itertools
import json
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import section
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import kendalltau

import mnv3_jax as mnv3
from mnv3_jax.latency.latency_table import LatencyTable, predict_searched_latency
from mnv3_jax.report.plots import BLUE, GREY, ORANGE, plain, save
from mnv3_jax.runs.atomic import write_atomically
from mnv3_jax.search import SearchSpace, Stage, platform_aware, train_supernet
from mnv3_jax.search.rewards import Reward
from mnv3_jax.search.run_supernet import held_out_examples
from mnv3_jax.search.samplers import Observation, propose
from mnv3_jax.search.shared_weights import SharedWeights
from mnv3_jax.sweeps.launch import run_trials
from mnv3_jax.sweeps.trial import Trial, command_line

ROOT = pathlib.Path(__file__).parent.parent
RESULTS = ROOT / "experiments" / "results" / "search"
BEGIN, END = "<!-- from experiments/search_study.py -->\n", "<!-- end of search_study -->\n"

NESTED = {"skips": ("identity",), "stride": 2}
SPACE = SearchSpace(
  stages=(
    Stage(filters=(16,), layers=(1,), ops=("mbconv3",), kernels=(3,), se_ratios=(0.0, 0.25), **NESTED),
    Stage(filters=(16, 24, 40), layers=(2,), ops=("mbconv3", "mbconv6"), kernels=(3,), se_ratios=(0.0,), **NESTED),
    Stage(
      filters=(24, 40, 72),
      layers=(1, 2, 4),
      ops=("mbconv6",),
      kernels=(3, 5),
      se_ratios=(0.25,),
      activation="hard_swish",
      **NESTED,
    ),
  ),
  se_of="expansion",
)
CONFIG = "fashion_mnist:mobilenetv3_small"
# epochs of a sample, of the supernet, and of the trainings by which both are judged
SHORT, SHARED, LONG = 2.0, 30.0, 6.0
# of a sample: few steps, so that its average forgets sooner
PROXY: dict[str, object] = {"optim.ema": 0.98, "optim.lr": 5e-4, "optim.warmup": 0.5}
SAMPLERS, SEEDS, SAMPLES = ("random", "tpe", "nsga2"), range(8), 60
NETWORKS, LONG_SEEDS = 20, (0, 1)
REWARDS = {"soft, w = -0.07": ("soft", -0.07), "soft, w = -0.15": ("soft", -0.15), "hard": ("hard", None)}


def config(**changes: object) -> Any:
  """Returns the config of all trainings."""
  return mnv3.get_config(CONFIG, {"data.train_split": "train[:90%]", **changes})


def networks(folder: pathlib.Path, jobs: int = 2) -> list[dict[str, Any]]:
  """Trains every network of the space for a short time; returns choices, milliseconds and top-1 of each."""
  SPACE.write(folder / "space.json")
  table = folder / "table.json"
  if not table.is_file():
    words = ["latency_table", "mobilenetv3_small", "--space", str(folder / "space.json"), "--grid", "2", "--resolution=32"]
    subprocess.run(command_line(["mnv3", *words, "--num_classes=10", "--out", str(table)]), check=True)
  latencies = sorted(_milliseconds(table).values())
  found = platform_aware(
    config(),
    folder / "networks",
    table=table,
    target_ms=latencies[len(latencies) // 2],
    space=SPACE,
    sampler="random",
    samples=SPACE.size,
    batch=2 * jobs,
    jobs=jobs,
    epochs=SHORT,
    proxy=PROXY,
  )
  names = ("choices", "latency_ms", "top1", "params", "madds", "seconds")
  return [{name: sample[name] for name in names} for sample in found["samples"]]


def _milliseconds(table: pathlib.Path) -> dict[tuple[Any, ...], float]:
  """Returns the predicted milliseconds of every network."""
  read = LatencyTable.read(table)
  found = {}
  for values in itertools.product(*SPACE.options.values()):
    choices = SPACE.canonical(dict(zip(SPACE.options, values, strict=True)))
    network = SPACE.architecture(choices, "mobilenetv3_small", resolution=32, num_classes=10)
    found[tuple(choices.values())] = predict_searched_latency(network, read)
  return found


def replayed(table: list[dict[str, Any]], target_ms: float) -> dict[str, list[list[float]]]:
  """Replays searches on the table; returns {sampler: best reward so far after each sample, by seed}."""
  reward = Reward(kind="soft", target_ms=target_ms, weight=None)
  rewards = {tuple(row["choices"].values()): reward(row["top1"], row["latency_ms"]) for row in table}
  found: dict[str, list[list[float]]] = {}
  for sampler in SAMPLERS:
    for seed in SEEDS:
      seen: list[Observation] = []
      for number in range(1, SAMPLES + 1):
        choices, attributes = propose(sampler, SPACE, seen, seed, number)
        seen.append(Observation(choices=choices, reward=rewards[tuple(choices.values())], attributes=attributes))
      best = np.maximum.accumulate([o.reward for o in seen if o.reward is not None])
      found.setdefault(sampler, []).append([round(float(r), 5) for r in best])
  return found


def shared(folder: pathlib.Path, table: list[dict[str, Any]]) -> dict[str, Any]:
  """Trains a supernet and judges every network by its weights; returns top-1 of each, and seconds of training and judging."""
  run = train_supernet(config(**{"train.epochs": SHARED}), folder / "supernet", space=SPACE)
  trained = mnv3.load(run)
  file = folder / "shared.json"
  found = json.loads(file.read_text()) if file.is_file() else {"training_seconds": (run.result or {})["seconds"]}
  for name, batches in (("top1", 4), ("top1_without_statistics", 0)):
    if name not in found:
      begun = time.monotonic()
      weights = SharedWeights(trained, held_out_examples(trained, 10_000), batches)
      found[name] = [weights.metrics(row["choices"])["top1"] for row in table]
      found[f"{name}_seconds"] = time.monotonic() - begun
      file.write_text(json.dumps(found))
  return found


def longer(folder: pathlib.Path, table: list[dict[str, Any]]) -> dict[str, list[float]]:
  """Trains networks of the table longer; returns {index in the table: top-1 on the same held-out photos, by seed}."""
  chosen = np.random.default_rng(0).choice(len(table), NETWORKS, replace=False).tolist()
  trials = []
  for i, seed in itertools.product(chosen, LONG_SEEDS):
    workdir = folder / "longer" / f"{i:03d}_seed{seed}"
    fields = {
      "data.train_split": "train[:90%]",
      "data.eval_split": "train[90%:]",
      "model.blocks": SPACE.blocks(table[i]["choices"]),
    }
    fields |= {"train.epochs": LONG, "train.seed": seed, "evaluate.every": LONG, "optim.ema": 0.995, "optim.lr": 3e-4}
    words = [f"--config.{name}={value}" for name, value in fields.items()]
    command = ("mnv3", "train", "--config", CONFIG, "--workdir", str(workdir), *words)
    trials.append(Trial(name=workdir.name, directory=workdir, commands=(command,), results=(workdir / "result.json",)))
  run_trials("local", trials, logs=folder / "longer_logs", jobs=2)
  found: dict[str, list[float]] = {}
  for i, seed in itertools.product(chosen, LONG_SEEDS):
    result = json.loads((folder / "longer" / f"{i:03d}_seed{seed}" / "result.json").read_text())
    found.setdefault(str(i), []).append(result["metrics"]["test"]["ema"]["top1"])
  return found


def run(folder: pathlib.Path) -> None:
  """Runs the parts that are not kept."""
  folder.mkdir(parents=True, exist_ok=True)
  keep("networks", lambda: networks(folder))
  table = kept("networks")
  keep("replayed", lambda: replayed(table, target_of(table)))
  keep("supernet", lambda: shared(folder, table))
  keep("longer", lambda: longer(folder, table))


def keep(part: str, make: Callable[[], Any]) -> None:
  """Makes a part and keeps its figures, unless it is kept."""
  file = RESULTS / f"{part}.json"
  if not file.is_file():
    write_atomically(file, json.dumps(make(), indent=1) + "\n")


def kept(part: str) -> Any:
  """Returns the kept figures of a part."""
  return json.loads((RESULTS / f"{part}.json").read_text())


def target_of(table: list[dict[str, Any]]) -> float:
  """Returns the target of all searches: the median latency, in milliseconds."""
  return statistics.median(row["latency_ms"] for row in table)


def tau(a: list[float], b: list[float]) -> float:
  """Kendall's rank correlation."""
  return float(kendalltau(a, b).statistic)


def table() -> str:
  """Formats the kept figures as Markdown."""
  networks = kept("networks")
  return "\n".join([*_sampler_lines(networks), "", *_reward_lines(networks), "", *_judge_lines(networks), ""])


def _sampler_lines(networks: list[dict[str, Any]]) -> list[str]:
  target = target_of(networks)
  reward = Reward(kind="soft", target_ms=target, weight=None)
  rewards = [reward(n["top1"], n["latency_ms"]) for n in networks]
  # two trainings at a time
  minutes = statistics.mean(n["seconds"] for n in networks) / 2 / 60
  rows = [
    f"**Samplers**, replayed on the {len(networks)} networks with {len(SEEDS)} seeds: the best reward so far. The best of all "
    f"is {max(rewards):.4f}, the median {statistics.median(rewards):.4f}.",
    "",
    "| search | 10 samples | 30 samples | 60 samples | rank of its best, median | minutes, two cores |",
    "|---|---|---|---|---|---|",
  ]
  for sampler, runs in kept("replayed").items():
    cells = []
    for n in (10, 30, SAMPLES):
      values = [best[n - 1] for best in runs]
      cells.append(f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}")
    ranks = [_rank(best[-1], rewards) for best in runs]
    rows.append(f"| {sampler} | {' | '.join(cells)} | {statistics.median(ranks):g} | {SAMPLES * minutes:.0f} |")
  weights = kept("supernet")
  judged = [reward(top1, n["latency_ms"]) for top1, n in zip(weights["top1"], networks, strict=True)]
  found = rewards[int(np.argmax(judged))]
  took = (weights["training_seconds"] + weights["top1_seconds"]) / 60
  return [*rows, f"| supernet, all {len(networks)} | | | {found:.4f} | {_rank(found, rewards)} | {took:.0f} |"]


def _rank(reward: float, rewards: list[float]) -> int:
  # replayed rewards are rounded
  return 1 + sum(other > reward + 1e-5 for other in rewards)


def _reward_lines(networks: list[dict[str, Any]]) -> list[str]:
  small = sorted(n["latency_ms"] for n in networks)[len(networks) // 5]
  rows = [
    f"**Rewards**: the best network of all for a small target, {small:.3f} ms.",
    "",
    "| reward | ms | of the target | top-1 | parameters |",
    "|---|---|---|---|---|",
  ]
  for name, (kind, weight) in REWARDS.items():
    judged = Reward(kind=kind, target_ms=small, weight=weight)
    best = max(networks, key=lambda n: judged(n["top1"], n["latency_ms"]))
    cells = [f"{best['latency_ms']:.3f}", f"{best['latency_ms'] / small:.2f}", f"{best['top1']:.4f}", f"{best['params']:,}"]
    rows.append(f"| {name} | {' | '.join(cells)} |")
  return rows


def _judge_lines(networks: list[dict[str, Any]]) -> list[str]:
  weights, longer = kept("supernet"), kept("longer")
  short = [n["top1"] for n in networks]
  judges = {
    f"{SHORT:g} epochs alone": short,
    "supernet": weights["top1"],
    "supernet, statistics of the largest network": weights["top1_without_statistics"],
    "parameters": [n["params"] for n in networks],
    "multiply-adds": [n["madds"] for n in networks],
  }
  means = [statistics.mean(tests) for tests in longer.values()]
  by_seed = [[tests[seed] for tests in longer.values()] for seed in range(len(LONG_SEEDS))]
  agree = statistics.mean(tau(a, b) for a, b in itertools.combinations(by_seed, 2))
  rows = [
    f"**Judges**: Kendall's tau of each with trainings of the networks alone, for {SHORT:g} epochs and for {LONG:g} (mean of "
    f"{len(LONG_SEEDS)} seeds; two seeds agree with {agree:.2f}).",
    "",
    f"| judge | tau with {SHORT:g} epochs, all {len(networks)} | tau with {LONG:g} epochs, {len(longer)} of them |",
    "|---|---|---|",
  ]
  for judge, values in judges.items():
    of_all = "" if values is short else f"{tau(values, short):.2f}"
    rows.append(f"| {judge} | {of_all} | {tau([values[int(i)] for i in longer], means):.2f} |")
  minutes, training = sum(n["seconds"] for n in networks) / 2 / 60, weights["training_seconds"] / 60
  return [
    *rows,
    "",
    f"Trained alone, two at a time, the {len(networks)} networks took {minutes:.0f} minutes; the supernet {training:.0f}.",
  ]


def draw(file: pathlib.Path) -> None:
  """Draws the replayed searches, and top-1 alone over top-1 in the supernet."""
  figure = Figure(figsize=(9.6, 3.8), layout="constrained")
  best, judged = figure.subplots(1, 2)
  for (sampler, runs), colour in zip(kept("replayed").items(), (GREY, BLUE, ORANGE), strict=True):
    rewards, samples = np.array(runs), range(1, SAMPLES + 1)
    best.plot(samples, rewards.mean(0), color=colour, label=sampler)
    best.fill_between(samples, rewards.min(0), rewards.max(0), color=colour, alpha=0.15, linewidth=0)
  best.set(xlabel="samples", ylabel="best reward so far", title=f"Samplers: mean and range of {len(SEEDS)} seeds")
  best.legend(frameon=False, loc="lower right")
  plain(best)
  _draw_supernet(judged)
  save(figure, file)


def _draw_supernet(judged: Axes) -> None:
  weights = kept("supernet")
  names = {"top1_without_statistics": "statistics of the largest network", "top1": "statistics of each network"}
  for (name, label), colour in zip(names.items(), (GREY, BLUE), strict=True):
    alone = [100 * n["top1"] for n in kept("networks")]
    judged.plot([100 * top1 for top1 in weights[name]], alone, "o", color=colour, markersize=3, label=label)
  judged.set(xlabel="top-1 in the supernet, %", ylabel=f"top-1 after {SHORT:g} epochs alone, %", title="Supernet")
  # room for the legend below the points
  judged.margins(y=0.25)
  judged.legend(frameon=False, loc="lower center")
  plain(judged)


def rendered(text: str) -> str:
  """Returns a page's text with the tables as they should be."""
  return section.put(text, BEGIN, END, table())


if __name__ == "__main__":
  if sys.argv[1:]:
    run(pathlib.Path(sys.argv[1]))
  draw(RESULTS / "study.png")
  section.write(rendered)
