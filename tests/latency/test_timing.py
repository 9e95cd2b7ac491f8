"""Latency on this host: what is counted, in what order, and what is compared."""

import dataclasses
import json

import numpy as np
import pytest
from conftest import tiny_architecture

from mnv3_jax.errors import UsageError
from mnv3_jax.export import runtime, tflite as exporting
from mnv3_jax.export.random_weights import random_weights
from mnv3_jax.latency import timing
from mnv3_jax.latency.timing import Host, LatencyStats


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  """{name: bytes}: the tiny network at two resolutions, 64 times as many pixels apart."""
  folder = tmp_path_factory.mktemp("latency")
  for name, resolution in (("little", 16), ("big", 128)):
    a = tiny_architecture(resolution=resolution)
    exporting.write_tflite(a, *random_weights(a)[:1], folder / name, random_weights(a)[1])
  return {path.name: path.read_bytes() for path in sorted(folder.iterdir(), reverse=True)}


def test_every_file_is_timed_as_asked(files):
  progress = []
  found = Host(threads=2).measure(files, runs=23, warmup=1, on_progress=lambda *counts: progress.append(counts))
  assert list(found) == list(files)
  for one in found.values():
    assert (one.runs, one.threads) == (23, 2)
    assert 0 < one.p25_ms <= one.median_ms <= one.p75_ms
    assert one.spread == (one.p75_ms - one.p25_ms) / one.median_ms
  assert progress[-1] == (46, 46) and [done for done, _ in progress] == sorted({done for done, _ in progress})
  assert json.loads(json.dumps(dataclasses.asdict(found["big"])))["runs"] == 23


def test_a_larger_file_takes_longer(files):
  # 64 times the pixels on one thread: two threads may wait for a core that others have longer than they compute
  found = Host().measure(files, runs=23)
  assert found["big"].p25_ms > 3 * found["little"].p25_ms


def test_files_take_turns(files, monkeypatch):
  order, real = [], timing._block

  def block(invoke, n):
    order.append((invoke.__self__, n))
    return real(invoke, n)

  monkeypatch.setattr(timing, "_block", block)
  rounds = Host().rounds({**files, "third": files["little"]}, runs=41)
  # five rounds of all three, as equal as can be, not always in the same order
  turns = [order[i : i + 3] for i in range(0, len(order), 3)]
  assert len(turns) == 5 and all(len({id(who) for who, _ in turn}) == 3 for turn in turns)
  assert [turn[0][1] for turn in turns] == [9, 8, 8, 8, 8]
  assert len({tuple(id(who) for who, _ in turn) for turn in turns}) > 1
  assert all([len(part) for part in parts] == [9, 8, 8, 8, 8] for parts in rounds.values())


def test_a_ratio_is_of_rounds(files):
  rng = np.random.default_rng(0)
  # a machine that becomes three times as slow half-way, for both files alike, and is disturbed once
  drift = np.repeat((1.0, 3.0), 10)
  reference = [np.full(5, d) for d in drift]
  other = [1.5 * d * rng.uniform(0.99, 1.01, 5) for d in drift]
  other[3][:] = 100
  found = timing.ratio(other, reference)
  assert found.median == pytest.approx(1.5, rel=0.01)
  assert 1.48 < found.p25 < found.median < found.p75 < 1.52
  assert found.of_medians == pytest.approx(np.median(np.concatenate(other)) / 2, rel=1e-9)
  same = timing.ratio(reference, reference)
  assert (same.median, same.p25, same.p75, same.of_medians) == (1, 1, 1, 1)


def test_a_file_beside_itself_takes_as_long(files):
  rounds = Host().rounds({"one": files["big"], "other": files["big"]}, runs=200)
  assert 0.5 < timing.ratio(rounds["other"], rounds["one"]).median < 2


def test_a_neighbour_on_the_same_core_is_noticed(files, neighbour):
  host = Host()
  found = host.measure({"big": files["big"]}, runs=1000)
  assert 0.2 < host.preempted < 1
  assert found["big"].runs == 1000


def test_no_quartiles_no_spread():
  assert LatencyStats(median_ms=2.0, p25_ms=1.9, p75_ms=2.2, runs=1, threads=1).spread == pytest.approx(0.15)
  assert LatencyStats(median_ms=2.0, p25_ms=None, p75_ms=None, runs=1, threads=1).spread is None


def test_many_files_do_not_need_much_memory(files):
  def resident():
    with open("/proc/self/status") as status:
      return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))

  before, many = resident(), {f"file {i}": files["little"] for i in range(300)}
  found = Host().measure(many, runs=2, warmup=0)
  assert len(found) == 300 and all(one.runs == 2 for one in found.values())
  assert resident() - before < 400


def test_the_host_is_described():
  found = Host(threads=3).describe()
  assert found.keys() == {"device", "runtime", "threads", "kind"}
  assert (found["threads"], found["kind"]) == (3, "host")
  assert found["device"].endswith(("core", "cores")) and found["runtime"].startswith("ai-edge-litert 2.")


@pytest.mark.parametrize(
  ("info", "expected"),
  [
    (
      "model name\t: AMD EPYC\nflags\t\t: fpu avx avx2 sha_ni\n\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx avx2\n",
      "AMD EPYC (AVX2), ",
    ),
    ("model name\t: AMD EPYC\nflags\t\t: avx avx2 avx512f avx512_vnni\n", "AMD EPYC (AVX-512 VNNI), "),
    ("model name\t: Old\nflags\t\t: sse2\n", "Old, "),
    ("processor\t: 0\nFeatures\t: fp asimd asimddp\n", " (dot products), "),
    (None, ", "),
  ],
)
def test_processors_of_one_name_differ_by_their_instructions(info, expected, tmp_path):
  file = tmp_path / "cpuinfo"
  if info is not None:
    file.write_text(info)
  found = timing.processor(file)
  assert expected in found and found.endswith(("core", "cores"))
  assert info is None or "model name" not in info or found.startswith(expected)


@pytest.mark.parametrize(
  ("dtype", "scale", "low", "high"),
  [(np.int8, 0.5, -120, 120), (np.uint8, 0, 5, 250), (np.int16, 0.1, -32000, 32000), (np.float32, 0, -0.9, 0.9)],
)
def test_inputs_are_filled_with_all_they_have(dtype, scale, low, high):
  x = runtime._random(np.random.default_rng(0), {"dtype": dtype, "shape": np.array([1, 10000]), "quantization": (scale, 0)})
  assert x.shape == (1, 10000) and x.dtype == dtype and x.min() < low < high < x.max() and abs(x.max()) >= high


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.int16, np.bool_])
def test_whole_numbers_that_may_be_indices_are_zero(dtype):
  x = runtime._random(np.random.default_rng(0), {"dtype": dtype, "shape": np.array([1, 100]), "quantization": (0.0, 0)})
  assert x.shape == (1, 100) and x.dtype == dtype and not x.any()


def test_a_damaged_file_is_named(files):
  with pytest.raises(UsageError, match="'cut' cannot be loaded"):
    Host().measure({"good": files["little"], "cut": files["little"][:2000]}, runs=1)
