"""A trace of some steps, for Perfetto and TensorBoard."""

import contextlib

import jax

# the first step of a trace at the latest, since the first of a process are compiling; and how many
FIRST, STEPS = 10, 10


@contextlib.contextmanager
def traced(place, steps, bar):
  """A context that gives a function (steps done in this process, state), to be called before every step: it leaves the trace.

  Args:
    place: directory of the trace; None for none.
    steps: that this process is going to do; where they are few, the trace is of the second half of them.
    bar: a report.progress.Bar, which says where the trace is.
  """
  if not place:
    yield lambda done, state: None
    return
  first, running = min(FIRST, steps // 2), False

  def stop():
    jax.profiler.stop_trace()
    bar.say(f"profile: {place} (TensorBoard shows it; ui.perfetto.dev opens its perfetto_trace.json.gz)")

  def trace(done, state):
    nonlocal running
    if done not in (first, first + STEPS):
      return
    # what was begun before belongs to another part
    jax.block_until_ready(state)
    if done == first:
      jax.profiler.start_trace(place, create_perfetto_trace=True)
      running = True
    elif running:
      running = False
      stop()

  try:
    yield trace
  finally:
    if running:
      stop()
