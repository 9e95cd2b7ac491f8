"""Waiting is counted only while the device has nothing to do."""

import time

import pytest

from mnv3_jax.training import clock


class Sums:
  """Results that are there at a given moment."""

  def __init__(self, after):
    self.at = time.monotonic() + after

  def block_until_ready(self):
    time.sleep(max(self.at - time.monotonic(), 0))


@pytest.mark.parametrize(("computing", "waiting", "idle"), [(0.2, 0.1, 0.0), (0.1, 0.3, 0.2), (0.0, 0.2, 0.2)])
def test_only_what_the_device_has_to_wait_counts(computing, waiting, idle):
  with clock.Clock() as found:
    found.waited(0, 100)
    assert found.idle() == 0
    found.started(Sums(computing))
    since = time.monotonic()
    time.sleep(waiting)
    found.waited(since, time.monotonic())
    assert found.idle() == pytest.approx(idle, abs=0.06)
    assert found.idle() == 0
