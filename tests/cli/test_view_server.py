"""The server of ``coreproof view``, asked through raw sockets: by whom, for what, and how badly."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from coreproof.cli.netron_at import Served, pages, serve
from coreproof.cli.view import model_files
from coreproof.model.onnx.model import OnnxModel
from tests.build import conv_relu_onnx
from tests.cli.conftest import Ran

Ask = Callable[[bytes], bytes]
NAME = 'ne\u202et "&<.onnx'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Something like Netron's package, and a model's folder with a secret."""
    netron = tmp_path / "netron"
    (netron / "__pycache__").mkdir(parents=True)
    page = '<html><head>\n<meta name="version" content="1">\n</head></html>'
    for name, text in (
        ("index.html", page),
        ("index.js", "1"),
        ("server.py", "secret"),
        ("__pycache__/a.js", "secret"),
    ):
        (netron / name).write_text(text)
    models = tmp_path / "models"
    models.mkdir()
    (models / NAME).write_bytes(b"model")
    (models / "weights.bin").write_bytes(b"weights")
    (models / "secret.txt").write_text("secret")
    (models / "link.js").symlink_to(models / "secret.txt")
    return tmp_path


@pytest.fixture
def port(folder: Path) -> Iterator[int]:
    served = pages(folder / "netron", folder / "models" / NAME, {"weights.bin": folder / "models" / "weights.bin"}, [])
    server = serve(served, 0)
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture
def ask(port: int) -> Ask:
    def ask(request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(request.replace(b"PORT", str(port).encode()))
            connection.shutdown(socket.SHUT_WR)
            return connection.makefile("rb").read()

    return ask


def get(path: bytes, *headers: bytes) -> bytes:
    own = () if any(h.lower().startswith(b"host:") for h in headers) else (b"Host: 127.0.0.1:PORT",)
    return b"\r\n".join([b"GET " + path + b" HTTP/1.1", *own, *headers, b"Connection: close", b"", b""])


def status(answer: bytes) -> int:
    first = answer.split(b"\r\n", 1)[0].split()
    assert first[0].startswith(b"HTTP/1."), answer[:80]
    return int(first[1])


def body(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def test_the_page_the_model_and_its_data_are_served(ask: Ask) -> None:
    page = body(ask(get(b"/"))).decode()
    assert 'content="/data/ne%E2%80%AEt%20%22%26%3C.onnx"' in page
    assert '<meta name="name" content="ne\\u202et &quot;&amp;&lt;.onnx">' in page
    assert body(ask(get(b"/data/ne%E2%80%AEt%20%22%26%3C.onnx?cb=1"))) == b"model"
    assert body(ask(get(b"/data/weights.bin"))) == b"weights"
    assert body(ask(get(b"/index.js?version=1"))) == b"1"
    answer = ask(get(b"/index.js").replace(b"GET", b"HEAD"))
    assert status(answer) == 200
    assert body(answer) == b""


@pytest.mark.sweep(1)
@pytest.mark.parametrize("host", ["127.0.0.1:PORT", "localhost:PORT", "LOCALHOST:PORT"])
def test_the_loopback_address_may_be_asked_by_its_names(ask: Ask, host: str) -> None:
    assert status(ask(get(b"/", b"Host: " + host.encode()))) == 200
    assert status(ask(get(b"/", b"Host: " + host.encode(), b"Origin: http://" + host.encode()))) == 200


@pytest.mark.sweep(3)
@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:PORT", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.evil.example:PORT", "0.0.0.0:PORT",
     "localhost.:PORT", "[::1]:PORT", "127.0.0.1:PORT@evil.example", "localhost:PORT.evil.example", ""],
)  # fmt: skip
def test_another_name_of_this_machine_is_refused(ask: Ask, host: str) -> None:
    for path in (b"/", b"/data/weights.bin", b"/none"):
        answer = ask(get(path, b"Host: " + host.encode()))
        assert status(answer) == 403
        assert b"weights" not in body(answer)


@pytest.mark.sweep(2)
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:PORT", "http://127.0.0.1"])
def test_a_page_of_somebody_else_is_refused(ask: Ask, origin: str) -> None:
    assert status(ask(get(b"/data/weights.bin", b"Origin: " + origin.encode()))) == 403


@pytest.mark.sweep(5)
@pytest.mark.parametrize(
    "path",
    ["/data/secret.txt", "/data/../secret.txt", "/data/..%2fsecret.txt", "/data/%2e%2e/models/secret.txt", "/data/",
     "/data", "/data/./weights.bin", "/data//weights.bin", "/../models/secret.txt", "/server.py",
     "/__pycache__/a.js", "/link.js", "/data/link.js", "/%2e%2e/%2e%2e/etc/passwd", "/..\\models\\secret.txt", "/C:/a",
     "/data/weights.bin%00.js", "/data/weights.bin/", "/etc/passwd", "/netron/index.js"],
)  # fmt: skip
def test_nothing_else_of_any_folder_is_served(ask: Ask, path: str) -> None:
    answer = ask(get(path.encode()))
    assert status(answer) in (400, 404)
    assert b"secret" not in answer
    assert b"weights" not in body(answer)


@pytest.mark.sweep(4)
@pytest.mark.parametrize(
    "request_",
    [b"\r\n\r\n\r\n", b"hello\r\n\r\n", b"GET\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/9\r\nHost: 127.0.0.1:PORT\r\n\r\n",
     b"GET / HTTP/2.0\r\nHost: 127.0.0.1:PORT\r\n\r\n", b"GET / HTTP/1.1 x\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n",
     b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
     b"GET http://127.0.0.1:PORT/ HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n",
     b"GET @127.0.0.1:1/ HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n",
     b"GET /%ff%fe HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n", b"GET /\x00 HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n",
     b"GET /\xff HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n",
     b"GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nHost: evil.example\r\n\r\n",
     b"GET / HTTP/1.1\r\nno header at all\r\nHost: 127.0.0.1:PORT\r\n\r\n",
     b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n",
     b"GET / HTTP/1.1\r\n" + b"".join(b"a%d: b\r\n" % n for n in range(300)) + b"\r\n"],
)  # fmt: skip
def test_a_malformed_request_is_answered_with_400(
    ask: Ask, request_: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = ask(request_)
    if request_.strip():
        assert status(answer) == 400
        assert body(answer) == b"400 Bad Request\n"
    assert status(ask(get(b"/"))) == 200, "and the server lives"
    assert capsys.readouterr() == ("", "")


@pytest.mark.sweep(2)
@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"OPTIONS", b"CONNECT", b"BREW"])
def test_only_reading_is_allowed(ask: Ask, method: bytes) -> None:
    assert status(ask(get(b"/").replace(b"GET", method))) == 405


def test_a_browser_is_told_to_keep_to_itself(ask: Ask) -> None:
    head = ask(get(b"/")).partition(b"\r\n\r\n")[0].decode()
    assert "connect-src 'self'" in head
    assert "frame-ancestors 'none'" in head
    assert "Cross-Origin-Resource-Policy: same-origin" in head
    assert "nosniff" in head
    assert "Python" not in head


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are Unicode")
def test_a_model_whose_name_is_no_utf_8_is_served_under_an_escaped_one(folder: Path) -> None:
    model = Path(os.fsdecode(os.fsencode(folder) + b"/models/n\xfft.onnx"))
    model.write_bytes(b"model")
    served = pages(folder / "netron", model, {}, [])
    assert served["/data/n\\udcfft.onnx"].content == model
    assert b'<meta name="file" content="/data/n%5Cudcfft.onnx">' in bytes(served["/"].content)


def test_a_file_that_went_away_is_not_found(ask: Ask, folder: Path) -> None:
    (folder / "models" / "weights.bin").unlink()
    assert status(ask(get(b"/data/weights.bin"))) == 404


def test_it_listens_on_the_loopback_address_only() -> None:
    with serve({"/": Served("text/html", b"x")}, 0) as server:
        assert server.server_address[0] == "127.0.0.1"
        server.shutdown()


def external(folder: Path, location: str) -> Path:
    weights = onnx.numpy_helper.from_array(np.ones(300, np.float32), "w")
    ends = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [300]) for n in "xy"]
    inner = onnx.helper.make_graph([], "inner", [], [])
    inner.initializer.append(weights)
    node = onnx.helper.make_node("Mul", ["x", "w"], ["y"])
    node.attribute.append(onnx.helper.make_attribute("body", inner))
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:], [weights])
    for tensor in (graph.initializer[0], graph.node[0].attribute[0].g.initializer[0]):
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
    path = folder / "net.onnx"
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    return path


def test_the_data_of_an_onnx_model_belongs_to_it_and_what_lies_outside_does_not(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    (inner / "data").mkdir(parents=True)
    (inner / "data" / "w.bin").write_bytes(b"w")
    (tmp_path / "secret").write_bytes(b"s")
    (inner / "link").symlink_to(tmp_path / "secret")
    model, data = model_files(external(inner, "data/w.bin"))
    assert (model, list(data)) == (inner / "net.onnx", ["data/w.bin"])
    for location in ("../secret", str(tmp_path / "secret"), "link", "none", "data", ""):
        assert model_files(external(inner, location))[1] == {}
    (inner / "net.onnx").write_bytes(b"no model")
    assert model_files(inner / "net.onnx") == (inner / "net.onnx", {})


def test_a_package_shows_its_model_and_its_weights(coreproof: Callable[..., Ran], tmp_path: Path) -> None:
    net = OnnxModel(conv_relu_onnx(), name="net").save(tmp_path / "net.onnx")
    assert coreproof("convert", net, tmp_path / "net.mlpackage").code == 0
    (tmp_path / "net.mlpackage" / "secret").write_bytes(b"s")
    model, data = model_files(tmp_path / "net.mlpackage")
    assert model.suffix == ".mlmodel"
    assert [(name, path.name) for name, path in data.items()] == [("weights/weight.bin", "weight.bin")]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes as files here")
def test_view_refuses_what_is_no_file(coreproof: Callable[..., Ran], tmp_path: Path) -> None:
    pytest.importorskip("netron", reason="Netron is not installed")
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "folder").mkdir()
    for model in ("pipe.onnx", "folder", "none.onnx"):
        assert coreproof("view", tmp_path / model, "--no-browse", "--port", 0).code == 2
    assert coreproof("view", "/dev/zero", "--no-browse", "--port", 0).code == 2
