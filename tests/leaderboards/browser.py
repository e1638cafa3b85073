"""A headless Chromium over its DevTools protocol, with nothing but the standard library: pages from disk, clicks, console, screenshots."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import struct
import subprocess
import time
import urllib.request

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run", "--hide-scrollbars", "--mute-audio", "--remote-debugging-port=0", "--proxy-server=127.0.0.1:9",
]  # fmt: skip


class Socket:
    """The client's side of a WebSocket (RFC 6455): text frames only."""

    def __init__(self, url):
        host, path = url.removeprefix("ws://").split("/", 1)
        name, port = host.split(":")
        self.connection = socket.create_connection((name, int(port)), timeout=60)
        self.file = self.connection.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        head = [f"GET /{path} HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}"]
        self.connection.sendall("\r\n".join([*head, "Sec-WebSocket-Version: 13", "", ""]).encode())
        assert b"101" in self.file.readline()
        while self.file.readline().strip():
            pass

    def send(self, text):
        body, mask = text.encode(), os.urandom(4)
        n = len(body)
        size = bytes([0x80 | n]) if n < 126 else b"\xfe" + struct.pack(">H", n) if n < 65536 else b"\xff" + struct.pack(">Q", n)
        masked = bytes(b ^ mask[i % 4] for i, b in enumerate(body))
        self.connection.sendall(b"\x81" + size + mask + masked)

    def receive(self):
        whole = b""
        while True:
            first, second = self.file.read(2)
            n = second & 0x7F
            n = struct.unpack(">H", self.file.read(2))[0] if n == 126 else struct.unpack(">Q", self.file.read(8))[0] if n == 127 else n
            body = self.file.read(n)
            if first & 0x0F in (0x0, 0x1):
                whole += body
                if first & 0x80:
                    return whole.decode()


class Browser:
    """One page of a new browser. ``problems`` collects exceptions, console errors, blocked and failed requests; ``asked`` all URLs."""

    def __init__(self, profile):
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        end = time.monotonic() + 60
        port = profile / "DevToolsActivePort"
        while not (port.is_file() and port.read_text().count("\n")):
            if time.monotonic() > end or self.process.poll() is not None:
                self.close()
                raise RuntimeError("chromium did not start")
            time.sleep(0.05)
        number = port.read_text().splitlines()[0]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        pages = json.load(opener.open(f"http://127.0.0.1:{number}/json", timeout=30))
        self.socket = Socket(next(p for p in pages if p["type"] == "page")["webSocketDebuggerUrl"])
        self.count, self.problems, self.asked, self.loaded = 0, [], [], False
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": params}))
        while True:
            got = json.loads(self.socket.receive())
            if got.get("id") == self.count:
                assert "error" not in got, got
                return got["result"]
            self._event(got)

    def _event(self, got):
        name, p = got.get("method"), got.get("params", {})
        if name == "Runtime.exceptionThrown":
            self.problems.append(p["exceptionDetails"].get("exception", {}).get("description") or p["exceptionDetails"]["text"])
        elif name == "Runtime.consoleAPICalled" and p["type"] in ("error", "warning", "assert"):
            self.problems.append(str([a.get("value") or a.get("description") for a in p["args"]]))
        elif name == "Log.entryAdded" and p["entry"]["level"] in ("error", "warning"):
            self.problems.append(p["entry"]["text"])
        elif name == "Network.loadingFailed" and not p.get("canceled"):
            self.problems.append(p["errorText"])
        elif name == "Network.requestWillBeSent":
            self.asked.append(p["request"]["url"])
        elif name == "Page.loadEventFired":
            self.loaded = True

    def open(self, path, width=1280, height=900, dark=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.loaded = False
        self.call("Page.navigate", url=path if isinstance(path, str) else path.as_uri())
        while not self.loaded:
            self._event(json.loads(self.socket.receive()))

    def run(self, expression):
        """Return the value of a JavaScript expression; promises are awaited."""
        got = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in got, got["exceptionDetails"]
        return got["result"].get("value")

    def screenshot(self, file, whole=True):
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 6000), "scale": 1}
        extra = {"captureBeyondViewport": True, "clip": clip} if whole else {}
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png", **extra)["data"]))

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
