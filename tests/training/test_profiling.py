"""WaitClock counts waiting only while the device is idle."""

import time

import pytest

from mnv3_jax.training.profiling import WaitClock


class Sums:
  """Results that are ready at a given time."""

  def __init__(self, after):
    self.at = time.monotonic() + after

  def block_until_ready(self):
    time.sleep(max(self.at - time.monotonic(), 0))


@pytest.mark.parametrize(("computing", "waiting", "idle"), [(0.2, 0.1, 0.0), (0.1, 0.3, 0.2), (0.0, 0.2, 0.2)])
def test_only_what_the_device_has_to_wait_counts(computing, waiting, idle):
  with WaitClock() as found:
    found.add_wait(0.0, 100.0)
    assert found.idle() == 0
    found.add_step(Sums(computing))
    since = time.monotonic()
    time.sleep(waiting)
    found.add_wait(since, time.monotonic())
    assert found.idle() == pytest.approx(idle, abs=0.06)
    assert found.idle() == 0
