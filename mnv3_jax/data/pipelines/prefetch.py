"""Batches made ahead in a thread, so that the device does not wait for them."""

import contextlib
import queue
import threading


@contextlib.contextmanager
def ahead(batches, depth=2):
  """A context that iterates `batches` in a thread, at most `depth` ahead; an error in there is raised here.

  Leaving the context stops the thread.
  """
  line, stop = queue.Queue(depth), threading.Event()

  def put(item):
    while not stop.is_set():
      with contextlib.suppress(queue.Full):
        return line.put(item, timeout=0.1)

  def work():
    try:
      for batch in batches:
        put((batch, None))
        if stop.is_set():
          return
      put((None, StopIteration()))
    except Exception as error:  # handed over, not swallowed
      put((None, error))

  def take():
    while True:
      batch, error = line.get()
      if isinstance(error, StopIteration):
        return
      if error:
        raise error
      yield batch

  thread = threading.Thread(target=work, daemon=True)
  thread.start()
  try:
    yield take()
  finally:
    stop.set()
    thread.join()
