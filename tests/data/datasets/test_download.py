"""Downloads against a local server: resuming, checking, and archives that try to escape."""

import hashlib
import http.server
import io
import stat
import threading
import zipfile
from dataclasses import dataclass, field

import pytest

from dualrel_jax.data.datasets.download import download_dataset
from dualrel_jax.data.datasets.public import LAYOUTS, Layout, Remote
from dualrel_jax.errors import InputError

PAYLOAD = bytes(range(256)) * 64
SHA256 = hashlib.sha256(PAYLOAD).hexdigest()


@dataclass
class Server:
    """What the local server holds, how it behaves, and the Range header of every request it got."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True  # whether it can continue a download
    break_after: int | None = None  # bytes after which it drops the connection
    requests: list[str | None] = field(default_factory=list)


@pytest.fixture
def server():
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers.get("Range")
            state.requests.append(asked)
            body = state.files.get(self.path.lstrip("/"))
            if body is None:
                return self.send_error(404)
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and state.ranges else 0
            if start >= len(body):
                return self.send_error(416)
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            stop = None if state.break_after is None else start + state.break_after
            self.wfile.write(body[start:stop])

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        state.url = f"http://127.0.0.1:{httpd.server_port}/"
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        yield state
        httpd.shutdown()
        thread.join()


def offer(monkeypatch, server, filename, body, **facts):
    """Puts a file on the server and in the table, as data set `tiny`."""
    server.files[filename] = body
    facts = {"sha256": hashlib.sha256(body).hexdigest(), **facts}
    offer_remote(monkeypatch, Remote(server.url + filename, **facts))


def offer_remote(monkeypatch, remote):
    layout = Layout("tiny", (1.0, 1.0, 1.0), "", "none", reader=None, files="", remotes=(remote,))
    monkeypatch.setitem(LAYOUTS, "tiny", layout)


def make_zip(members: dict[str, bytes], mode: int = 0o644 | stat.S_IFREG) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def everything_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_fetches_once_and_then_does_nothing(tmp_path, server, monkeypatch):
    offer(monkeypatch, server, "training.tif", PAYLOAD, size=len(PAYLOAD))
    for _ in range(2):
        assert download_dataset("tiny", tmp_path) == tmp_path / "tiny"
        assert (tmp_path / "tiny" / "training.tif").read_bytes() == PAYLOAD
    assert server.requests == [None]
    assert everything_below(tmp_path) == ["tiny/training.tif"]


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_continues(tmp_path, server, monkeypatch, ranges):
    offer(monkeypatch, server, "training.tif", PAYLOAD)
    server.ranges, server.break_after = ranges, 5000
    with pytest.raises(InputError, match="same command again"):
        download_dataset("tiny", tmp_path)
    assert everything_below(tmp_path) == ["tiny/training.tif.part"]
    server.break_after = None
    download_dataset("tiny", tmp_path)
    assert server.requests == [None, "bytes=5000-"]
    assert (tmp_path / "tiny" / "training.tif").read_bytes() == PAYLOAD


def test_a_complete_part_is_only_checked(tmp_path, server, monkeypatch):
    offer(monkeypatch, server, "training.tif", PAYLOAD)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "training.tif.part").write_bytes(PAYLOAD)
    download_dataset("tiny", tmp_path)
    assert server.requests == [f"bytes={len(PAYLOAD)}-"]
    assert (tmp_path / "tiny" / "training.tif").read_bytes() == PAYLOAD


@pytest.mark.parametrize("facts, said", [({"sha256": "0" * 64}, SHA256), ({"size": 1234567}, "1234567")])
def test_a_wrong_file_is_refused_and_removed(tmp_path, server, monkeypatch, facts, said):
    offer(monkeypatch, server, "training.tif", PAYLOAD, **facts)
    with pytest.raises(InputError, match=said):
        download_dataset("tiny", tmp_path)
    assert everything_below(tmp_path) == []


def test_a_missing_server_names_the_manual_path(tmp_path, server, monkeypatch):
    offer_remote(monkeypatch, Remote(server.url + "gone.tif", size=10))
    with pytest.raises(InputError, match=f"put it at {tmp_path / 'tiny' / 'gone.tif'}"):
        download_dataset("tiny", tmp_path)
    offer_remote(monkeypatch, Remote("http://127.0.0.1:9/x.tif", size=10))
    with pytest.raises(InputError, match="Could not download"):
        download_dataset("tiny", tmp_path)


def test_an_archive_is_unpacked_without_its_top_folder_and_the_rest(tmp_path, server, monkeypatch):
    members = {
        "repo-master/readme.md": b"no",
        "repo-master/stack1/raw/00.tif": b"image",
        "repo-master/stack1/raw/01.tif": b"image 1",
        "repo-master/stack1/mitochondria/00.png": b"label",
        "__MACOSX/repo-master/stack1/raw/._00.tif": b"junk",
    }
    offer(monkeypatch, server, "master.zip", make_zip(members), folders=("stack1/raw", "stack1/mitochondria"))
    for _ in range(2):
        download_dataset("tiny", tmp_path)
        assert everything_below(tmp_path / "tiny") == [
            "stack1/mitochondria/00.png",
            "stack1/raw/00.tif",
            "stack1/raw/01.tif",
        ]
    assert (tmp_path / "tiny/stack1/raw/01.tif").read_bytes() == b"image 1"
    assert len(server.requests) == 1


def test_an_archive_put_there_by_hand_is_used_and_kept(tmp_path, server, monkeypatch):
    body = make_zip({"im/im0000.png": b"image"})
    offer(monkeypatch, server, "im.zip", body, folders=("im",))
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "im.zip").write_bytes(body)
    download_dataset("tiny", tmp_path)
    assert server.requests == []
    assert everything_below(tmp_path / "tiny") == ["im.zip", "im/im0000.png"]


@pytest.mark.parametrize(
    "name, mode",
    [
        ("im/../../escaped", stat.S_IFREG),
        ("/im/escaped", stat.S_IFREG),
        ("im\\..\\..\\escaped", stat.S_IFREG),
        ("C:/im/escaped", stat.S_IFREG),
        ("im/link", stat.S_IFLNK),
    ],
)
def test_an_archive_that_escapes_writes_nothing(tmp_path, server, monkeypatch, name, mode):
    body = make_zip({"im/good": b"x", name: b"/etc"}, mode)
    offer(monkeypatch, server, "im.zip", body, folders=("im",))
    with pytest.raises(InputError, match="nothing was unpacked"):
        download_dataset("tiny", tmp_path / "data")
    assert everything_below(tmp_path) == ["data/tiny/im.zip"]


def test_a_doubled_slash_stays_inside(tmp_path, server, monkeypatch):
    offer(monkeypatch, server, "im.zip", make_zip({"im//im0000.png": b"x"}), folders=("im",))
    download_dataset("tiny", tmp_path)
    assert everything_below(tmp_path) == ["tiny/im/im0000.png"]


def test_an_archive_without_the_data_is_refused(tmp_path, server, monkeypatch):
    offer(monkeypatch, server, "im.zip", make_zip({"other/a.png": b"x"}), folders=("im",))
    with pytest.raises(InputError, match="does not hold the folder im"):
        download_dataset("tiny", tmp_path)


def test_a_data_set_without_download(tmp_path):
    with pytest.raises(InputError, match="phantom cannot be downloaded.*expected one of lucchi, .*vnc.$"):
        download_dataset("phantom", tmp_path)
    by_hand = rf"put images.tif, instances.tif .* into {tmp_path / 'fly_brain'} by hand \(from .*EMPIAR-10982/\)"
    with pytest.raises(InputError, match=f"fly_brain cannot be downloaded.*, or {by_hand}"):
        download_dataset("fly_brain", tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        download_dataset("vnc", tmp_path / "file")
