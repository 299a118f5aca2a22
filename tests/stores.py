"""Stores on the loopback address: an S3 server, a web server, and one that fails now and then."""

import contextlib
import functools
import http.server
import logging
import os
import threading
import urllib.request
from pathlib import Path

import pytest

from dualrel_jax.data.io import remote

BUCKET = "bucket"


@contextlib.contextmanager
def s3_server():
    """The address of an S3 server with an empty bucket."""
    server = pytest.importorskip("moto.server", exc_type=ImportError)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    threaded = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    threaded.start()
    endpoint = "http://{}:{}".format(*threaded.get_host_and_port())
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT"))
    yield endpoint
    threaded.stop()


def use(monkeypatch, endpoint):
    """Sets the environment variables of an S3 store, and no others."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-key")


def upload(folder: Path, address: str):
    """Copies the files of a folder to an address, with the environment's endpoint and credentials."""
    store = remote.open_store(remote.as_place(address))
    files = [file for file in folder.rglob("*") if file.is_file()]
    for written in [store.write(str(file.relative_to(folder)), file.read_bytes()) for file in files]:
        written.result()


class Files(http.server.SimpleHTTPRequestHandler):
    """The files of a folder; each item of `faults` spoils a request: a status, or "drop" for a broken connection."""

    faults: list = []

    def do_GET(self):
        fault = self.faults.pop(0) if self.faults else None
        if fault is None:
            super().do_GET()
        elif fault == "drop":
            self.close_connection = True
        else:
            self.send_error(fault)

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def web_server(folder: Path, faults=()):
    """(address, requests still to spoil) of a web server that shows a folder."""
    faults = list(faults)
    handler = functools.partial(type("Failing", (Files,), {"faults": faults}), directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", faults
    server.shutdown()
    server.server_close()
