"""What a real browser makes of a page: Chromium without a window, spoken to by its DevTools protocol."""

import contextlib
import itertools
import json
import pathlib
import shutil
import subprocess
import time
import urllib.request

import websocket

PHONE, DESK = (390, 844), (1280, 800)

# what cannot be seen from outside; the smallest text that is shown, in pixels
ASKED = """(async () => {
  for (const image of document.images) image.loading = 'eager';
  await Promise.all([...document.images].map(image => image.decode().catch(() => 0)));
  const texts = [...document.querySelectorAll('body *')].filter(e =>
    [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) && e.checkVisibility());
  return {
    broken: [...document.images].filter(image => !image.naturalWidth).map(image => image.getAttribute('src')),
    images: document.images.length,
    width: document.documentElement.scrollWidth,
    shown: window.innerWidth,
    smallest: Math.min(...texts.map(e => parseFloat(getComputedStyle(e).fontSize))),
    background: getComputedStyle(document.body).backgroundColor,
  };
})()"""


class Browser:
  """A context with one Chromium.

  Args:
    profile: a folder of its own.
  """

  def __init__(self, profile):
    self.profile = pathlib.Path(profile)

  def __enter__(self):
    program = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    assert program, "no Chromium here; make engines installs it (as root on Debian), or install the package chromium"
    words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--remote-allow-origins=*"]
    self.process = subprocess.Popen(
      [program, *words, f"--user-data-dir={self.profile}", "about:blank"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    port, deadline = self.profile / "DevToolsActivePort", time.monotonic() + 60
    while not (port.is_file() and port.read_text().count("\n")) and time.monotonic() < deadline:
      time.sleep(0.05)
    self.port = port.read_text().split()[0]
    return self

  def __exit__(self, *_):
    self.process.terminate()
    self.process.wait(30)

  def checked(self, page, size, scheme="light", screenshot=None):
    """What is wrong with a page.

    Args:
      page: path of an HTML file.
      size: (width, height) of the window in pixels.
      scheme: "light" or "dark".
      screenshot: a PNG to write, None: none.

    Returns:
      (a list of sentences, what ASKED found).
    """
    new = urllib.request.Request(f"http://127.0.0.1:{self.port}/json/new?about:blank", method="PUT")
    with urllib.request.urlopen(new) as answer:
      address = json.loads(answer.read())["webSocketDebuggerUrl"]
    with contextlib.closing(websocket.create_connection(address, timeout=60)) as tab:
      numbers, problems = itertools.count(1), []

      def hear():
        message = json.loads(tab.recv())
        what, said = message.get("method"), message.get("params", {})
        if what == "Runtime.consoleAPICalled":
          problems.append(f"console: {[argument.get('value') for argument in said['args']]}")
        elif what == "Runtime.exceptionThrown":
          problems.append(f"exception: {said['exceptionDetails']['text']}")
        elif what == "Log.entryAdded":
          problems.append(f"log: {said['entry']['text']}")
        elif what == "Network.loadingFailed":
          problems.append(f"not loaded: {said['errorText']}")
        return message

      def call(method, **params):
        number = next(numbers)
        tab.send(json.dumps({"id": number, "method": method, "params": params}))
        while (message := hear()).get("id") != number:
          pass
        assert "error" not in message, message
        return message["result"]

      for domain in ("Page", "Runtime", "Log", "Network"):
        call(f"{domain}.enable")
      width, height = size
      phone = width < 600
      call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
      call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
      call("Page.navigate", url=pathlib.Path(page).absolute().as_uri())
      while hear().get("method") != "Page.loadEventFired":
        pass
      found = call("Runtime.evaluate", expression=ASKED, awaitPromise=True, returnByValue=True)["result"]["value"]
      if screenshot:
        import base64

        png = call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        pathlib.Path(screenshot).write_bytes(base64.b64decode(png))
    problems += [f"broken image: {source}" for source in found["broken"]]
    if found["width"] > found["shown"]:
      problems.append(f"the page is {found['width']} px wide, the window {found['shown']}")
    if found["smallest"] < 12:
      problems.append(f"text of {found['smallest']} px")
    return problems, found
