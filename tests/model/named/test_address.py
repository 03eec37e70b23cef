"""Models at an address: downloaded whole or not at all, held against their digest, kept, and refused with what to do."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

import coreproof as cp
from coreproof.errors import CoreproofError, InputError, TooLargeError, UnreadableModelError, UnsafeModelError
from coreproof.model.named.address import read_address
from coreproof.model.named.cache import cache_folder
from coreproof.model.named.kinds import named_kind
from coreproof.model.stored_source import why_unsafe
from tests.model.named.server import (
    Server,
    cut,
    endless,
    in_turn,
    leads_to,
    said_length,
    status,
    whole,
)


def relu() -> bytes:
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 40]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    model = onnx.helper.make_model(
        graph, doc_string="a" * 200, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8
    )
    return bytes(model.SerializeToString())


BODY = relu()
DIGEST = hashlib.sha256(BODY).hexdigest()


def named(server: Server, path: str = "/net.onnx", digest: str = DIGEST) -> str:
    return f"{server.url(path)}#sha256={digest}"


def left(cache: Path) -> list[str]:
    return sorted(p.name for p in cache.rglob("*") if p.is_file() and p.suffix != ".lock")


def test_a_model_at_an_address_is_loaded_and_kept(server: Server, cache: Path) -> None:
    server.answers["/net.onnx"] = whole(BODY)
    model = cp.load(named(server))
    assert model.name == "net"
    assert [f.name for f in model.signature.outputs] == ["y"]
    assert server.url("/net.onnx") in model.notes[-1]
    cp.load(named(server))
    assert len(server.asked) == 1
    assert left(cache) == ["net.onnx"]


def test_what_is_kept_needs_no_network_and_is_judged_each_time(server: Server, cache: Path) -> None:
    server.answers["/net.onnx"] = whole(BODY)
    source = named(server)
    kept = cp.load(source).path
    assert kept is not None
    server.answers.clear()
    assert cp.load(source).name == "net"
    kept.write_bytes(BODY[:-1] + b"?")
    with pytest.raises(UnreadableModelError, match="does not give this file"):
        cp.load(source)
    server.answers["/net.onnx"] = whole(BODY)
    cp.load(source)
    assert kept.read_bytes() == BODY


@pytest.mark.parametrize("ranges", [True, False])
def test_a_connection_that_is_cut_is_gone_on_with(server: Server, cache: Path, ranges: bool) -> None:
    server.answers["/net.onnx"] = cut(BODY, 40, ranges=ranges)
    assert cp.load(named(server)).name == "net"
    wanted = [at for _, at in server.asked]
    assert wanted[:3] == [None, "bytes=40-", "bytes=80-"]
    assert left(cache) == ["net.onnx"]


def test_what_has_come_stays_for_the_next_run(server: Server, cache: Path) -> None:
    server.answers["/net.onnx"] = in_turn(cut(BODY, 40), cut(BODY, 0))
    with pytest.raises(UnreadableModelError, match=r"cut again and again[\s\S]*40 bytes are kept"):
        cp.load(named(server))
    assert left(cache) == ["net.onnx.part"]
    server.asked.clear()
    server.answers["/net.onnx"] = whole(BODY)
    assert cp.load(named(server)).name == "net"
    assert server.asked == [("/net.onnx", "bytes=40-")]


def test_a_part_of_another_file_is_forgotten(server: Server, cache: Path) -> None:
    source = named(server)
    partial = cache / "downloads" / DIGEST / "net.onnx.part"
    partial.parent.mkdir(parents=True)
    for begun in (b"another", BODY + b"longer", BODY):
        partial.write_bytes(begun)
        server.answers["/net.onnx"] = whole(BODY)
        path = cp.load(source).path
        assert path is not None
        assert path.read_bytes() == BODY
        path.unlink()


def test_another_file_is_refused_by_its_digest(server: Server, cache: Path) -> None:
    server.answers["/net.onnx"] = whole(BODY + b"!")
    with pytest.raises(UnreadableModelError) as raised:
        cp.load(named(server))
    assert "is not the one that the digest names" in str(raised.value)
    assert hashlib.sha256(BODY + b"!").hexdigest() in str(raised.value)
    assert left(cache) == []


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirections_are_followed(server: Server, code: int) -> None:
    server.answers["/net.onnx"] = leads_to("/elsewhere", code)
    server.answers["/elsewhere"] = whole(BODY)
    assert cp.load(named(server)).name == "net"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("file:///etc/passwd", "is not allowed"),
        ("ftp://127.0.0.1/net.onnx", "only an encrypted connection"),
        ("http://example.invalid/net.onnx", "only an encrypted connection"),
        ("https://user:secret@example.invalid/net.onnx", "with a password"),
    ],
)
def test_a_redirection_to_what_nobody_would_type_is_not_followed(server: Server, target: str, said: str) -> None:
    server.answers["/net.onnx"] = leads_to(target)
    with pytest.raises(CoreproofError, match=said):
        cp.load(named(server))


def test_a_circle_of_redirections_ends(server: Server) -> None:
    server.answers["/net.onnx"] = leads_to("/net.onnx")
    with pytest.raises(UnreadableModelError):
        cp.load(named(server))
    assert len(server.asked) < 20


@pytest.mark.parametrize(
    ("code", "said"),
    [(404, "404 [\\s\\S]*check the address"), (403, "403 [\\s\\S]*by hand"), (410, "410 [\\s\\S]*check the address")],
)
def test_what_the_server_refuses_is_said(server: Server, cache: Path, code: int, said: str) -> None:
    server.answers["/net.onnx"] = status(code)
    with pytest.raises(UnreadableModelError, match=said):
        cp.load(named(server))
    assert len(server.asked) == 1


def test_a_server_that_is_busy_is_asked_again(server: Server) -> None:
    server.answers["/net.onnx"] = in_turn(status(503), status(429), whole(BODY))
    assert cp.load(named(server)).name == "net"
    server.answers["/other.onnx"] = status(503)
    with pytest.raises(UnreadableModelError, match="503"):
        cp.load(named(server, "/other.onnx", "0" * 64))


@pytest.mark.parametrize("more", [-7, 7])
def test_a_length_that_is_not_so_is_no_reason_to_take_a_wrong_file(server: Server, cache: Path, more: int) -> None:
    server.answers["/net.onnx"] = said_length(BODY, len(BODY) + more)
    if more > 0:  # the bytes are all there, whatever was said
        assert cp.load(named(server)).name == "net"
        return
    with pytest.raises(UnreadableModelError, match="is not the one"):
        cp.load(named(server))
    assert left(cache) == []


def test_a_length_beyond_the_budget_is_refused_before_it_comes(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers["/net.onnx"] = said_length(BODY, 10**15)
    with pytest.raises(TooLargeError, match=r"COREPROOF_DOWNLOAD_BUDGET"):
        cp.load(named(server))
    monkeypatch.setenv("COREPROOF_DOWNLOAD_BUDGET", "9999T")
    with pytest.raises(TooLargeError, match=r"no room on the disk[\s\S]*COREPROOF_CACHE"):
        cp.load(named(server))
    assert left(cache) == []


def test_a_file_without_end_ends_at_the_budget(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COREPROOF_DOWNLOAD_BUDGET", "3MB")
    server.answers["/net.onnx"] = endless
    with pytest.raises(TooLargeError, match=r"at most 3,000,000 bytes"):
        cp.load(named(server))
    assert left(cache) == []


def test_without_a_network_the_place_that_was_looked_at_is_named(server: Server, cache: Path) -> None:
    source = named(server).replace(server.address, "http://127.0.0.1:9")
    with pytest.raises(UnreadableModelError) as raised:
        cp.load(source)
    said = str(raised.value)
    assert "not kept on this machine, and cannot be downloaded" in said
    assert str(cache / "downloads" / DIGEST / "net.onnx") in said
    assert "COREPROOF_CACHE" in said


def test_a_cache_that_cannot_be_written_is_named(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COREPROOF_CACHE", str(tmp_path / "file"))
    with pytest.raises(UnreadableModelError, match=r"cannot be kept[\s\S]*COREPROOF_CACHE"):
        cp.load(named(server))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://a.invalid/net.onnx", "put #sha256=DIGEST behind it"),
        ("https://a.invalid/net.onnx#sha256=abc", "64 hexadecimal digits"),
        (f"https://a.invalid/net.onnx#md5={DIGEST}", "behind the #"),
        (f"https://a.invalid/net.onnx#sha256={DIGEST}&sha256={DIGEST}", "behind the #"),
        (f"http://a.invalid/net.onnx#sha256={DIGEST}", "encrypted"),
        (f"https://me:secret@a.invalid/net.onnx#sha256={DIGEST}", "password"),
        (f"https:///net.onnx#sha256={DIGEST}", "no host"),
        (f"https://a.invalid:no/net.onnx#sha256={DIGEST}", "no address"),
        (f"https://a.invalid/a b.onnx#sha256={DIGEST}", "%20"),
        (f"https://a.invalid/download?id=3#sha256={DIGEST}", "&name=model.onnx"),
        (f"https://a.invalid/#sha256={DIGEST}", "&name=model.onnx"),
    ],
)
def test_what_an_address_cannot_mean_is_said(cache: Path, text: str, said: str) -> None:
    with pytest.raises(InputError) as raised:
        cp.load(text)
    assert said in str(raised.value)
    assert "secret" not in str(raised.value)


def test_an_address_may_say_the_files_name(cache: Path) -> None:
    address = read_address(f"https://a.invalid/get?id=3#sha256={DIGEST.upper()}&name=../net.onnx")
    assert address.url == "https://a.invalid/get?id=3"
    assert address.place.parent == cache / "downloads" / DIGEST
    assert read_address(f"https://a.invalid/a%2Fb%20c.onnx#sha256:{DIGEST}").name == "a_b c.onnx"


def test_a_pickle_at_an_address_needs_trust(server: Server) -> None:
    body = b"\x80\x04N."
    server.answers["/net.pt"] = whole(body)
    with pytest.raises(CoreproofError, match="execute code"):
        cp.load(named(server, "/net.pt", hashlib.sha256(body).hexdigest()))


def test_an_address_in_a_file_of_somebody_needs_trust(server: Server, tmp_path: Path) -> None:
    source = named(server)
    assert why_unsafe(source, tmp_path) == "an address that its author chose"
    with pytest.raises(UnsafeModelError, match="an address that its author chose"):
        cp.load(source, stored=True, folder=tmp_path)
    assert not server.asked
    server.answers["/net.onnx"] = whole(BODY)
    assert cp.load(source, stored=True, folder=tmp_path, trust=True).name == "net"


def test_every_verb_takes_an_address(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from coreproof.cli.main import main

    server.answers["/net.onnx"] = whole(BODY)
    source, made = named(server), str(tmp_path / "net.mlpackage")
    lines = [
        ["show", source],
        ["check", source],
        ["convert", source, made],
        ["verify", source, made],
        ["doctor", made, "--against", source],
        ["diff", source, source],
        ["edit", source, str(tmp_path / "edited.onnx"), "--do", "rename y z"],
    ]
    for line in lines:
        monkeypatch.setattr("sys.argv", ["coreproof", *line])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, (line, capsys.readouterr())
    assert len(server.asked) == 1


@pytest.mark.thorough
def test_two_runs_download_a_file_once(server: Server, cache: Path) -> None:
    server.answers["/net.onnx"] = whole(BODY)
    code = f"import coreproof; print(coreproof.load({named(server)!r}).name)"
    runs = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [run.communicate(timeout=60)[0].strip() for run in runs] == ["net", "net"]
    assert len(server.asked) == 1


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COREPROOF_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("COREPROOF_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "coreproof"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path.home() / ".cache" / "coreproof"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("torchvision:resnet18", "torchvision"),
        ("timm:resnet18", "timm"),
        ("hf:a/b", "hf"),
        ("https://a/b", "address"),
        ("HTTP://a/b", "address"),
        ("package.module:model", None),
        ("a.onnx", None),
        ("C:\\a.onnx", None),
        ("timm", None),
    ],
)
def test_names_are_told_from_paths(text: str, kind: str | None) -> None:
    assert named_kind(text) == kind
