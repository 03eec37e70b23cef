"""compare on a store, from run to run: what changed is seen again, what did not is not, whatever stands in between."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreproof.cli.compare import command
from coreproof.cli.options import NOT_REPORTED
from coreproof.comparison import part, plan, variants
from coreproof.comparison.compare import compare
from coreproof.comparison.comparison import Comparison
from coreproof.comparison.lineup import Lineup, LineupEntry, lineup_of
from coreproof.comparison.predictor import Predictor
from coreproof.comparison.store import Store
from coreproof.errors import CoreproofError, RunError, StoreError
from coreproof.feeding.photos import list_photos
from coreproof.report.page import page
from tests.build import FEEDING, classifier

TWO = {"a": classifier(0), "b": classifier(1)}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many photos each model was shown since it was cleared; slices are of four."""
    monkeypatch.setattr(plan, "SLICES", ((1000, 4),))
    counted: dict[str, int] = {}
    probabilities = Predictor.probabilities

    def counting(self: Predictor, photos: Sequence[Any]) -> Any:
        counted[self.entry.name] = counted.get(self.entry.name, 0) + len(photos)
        return probabilities(self, photos)

    monkeypatch.setattr(Predictor, "probabilities", counting)
    return counted


def shown(seen: dict[str, int], models: Any, photos: Any, store: Path) -> tuple[Comparison, dict[str, int]]:
    seen.clear()
    comparison = compare(models, photos, store)
    return comparison, dict(seen)


def alike(a: Comparison, b: Comparison) -> None:
    """Two comparisons of the same photos; what was computed in another batch may move a little."""
    assert a.agreement() == b.agreement()
    assert dict(a.skipped) == dict(b.skipped)
    assert sorted(a.photos) == sorted(b.photos)
    for name in a.names:
        for photo in a.photos:
            np.testing.assert_allclose(
                [p for _, p in a.predictions(name, photo)], [p for _, p in b.predictions(name, photo)], atol=1e-6
            )


def test_a_model_that_comes_later_is_the_only_one_that_runs(photos: Path, tmp_path: Path, seen: dict[str, int]) -> None:
    store = tmp_path / "store"
    assert shown(seen, TWO, photos, store)[1] == {"a": 12, "b": 12}
    assert shown(seen, {**TWO, "c": classifier(2)}, photos, store)[1] == {"c": 12}
    assert shown(seen, TWO, photos, store)[1] == {}


@pytest.mark.thorough
def test_photos_that_come_change_and_go(photos: Path, tmp_path: Path, seen: dict[str, int]) -> None:
    store = tmp_path / "store"
    shown(seen, TWO, photos, store)
    shutil.copyfile(photos / "p03.png", photos / "p03b.png")
    comparison, ran = shown(seen, TWO, photos, store)
    assert (ran, comparison.count) == ({"a": 1, "b": 1}, 13)
    assert comparison.predictions("a", "p03b.png") == comparison.predictions("a", "p03.png")
    shutil.copyfile(photos / "p05.png", photos / "p03b.png")
    comparison, ran = shown(seen, TWO, photos, store)
    assert (ran, comparison.count) == ({"a": 1, "b": 1}, 13)
    assert comparison.predictions("a", "p03b.png") == comparison.predictions("a", "p05.png")
    (photos / "p03b.png").unlink()
    comparison, ran = shown(seen, TWO, photos, store)
    assert (ran, comparison.count) == ({}, 12)
    (photos / "p00.png").touch()
    copied = tmp_path / "copied"
    shutil.copytree(photos, copied, copy_function=shutil.copyfile)
    comparison, ran = shown(seen, TWO, copied, store)
    assert ran == {}
    alike(comparison, compare(TWO, photos))


@pytest.mark.thorough
def test_a_photo_that_was_away_when_a_model_came_is_seen_when_it_is_back(
    photos: Path, tmp_path: Path, seen: dict[str, int]
) -> None:
    store, three = tmp_path / "store", {**TWO, "c": classifier(2)}
    shown(seen, TWO, photos, store)
    (photos / "p05.png").rename(tmp_path / "p05.png")
    comparison, ran = shown(seen, three, photos, store)
    assert (ran, comparison.count) == ({"c": 11}, 11)
    (tmp_path / "p05.png").rename(photos / "p05.png")
    comparison, ran = shown(seen, three, photos, store)
    assert set(ran) == {"c"}
    assert ran["c"] <= 4
    alike(comparison, compare(three, photos))
    assert shown(seen, three, photos, store)[1] == {}


@pytest.mark.thorough
def test_a_photo_that_could_not_be_read_for_a_while_is_seen_afterwards(
    photos: Path, tmp_path: Path, seen: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, three = tmp_path / "store", {**TWO, "c": classifier(2)}
    shown(seen, TWO, photos, store)
    read = Path.read_bytes

    def refused(self: Path) -> bytes:
        if self.name == "p05.png":
            raise PermissionError(13, "Permission denied")
        return read(self)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", refused)
        comparison, ran = shown(seen, three, photos, store)
        assert (ran, comparison.skipped["p05.png"]) == ({"c": 11}, "Permission denied")
        assert shown(seen, three, photos, store)[1] == {}
    comparison, ran = shown(seen, three, photos, store)
    assert set(ran) == {"c"}
    alike(comparison, compare(three, photos))


@pytest.mark.thorough
def test_a_photo_that_vanishes_between_listing_and_reading_is_skipped_and_said(
    photos: Path, tmp_path: Path, seen: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, make_plan = tmp_path / "store", plan.make_plan

    def vanishing(*arguments: Any) -> Any:
        made = make_plan(*arguments)
        (photos / "p05.png").rename(tmp_path / "p05.png")
        return made

    with monkeypatch.context() as patched:
        patched.setitem(compare.__globals__, "make_plan", vanishing)
        comparison, ran = shown(seen, TWO, photos, store)
    assert (ran, comparison.count) == ({"a": 11, "b": 11}, 11)
    assert comparison.skipped["p05.png"] == "there is no such picture"
    comparison, ran = shown(seen, TWO, photos, store)
    assert (ran, comparison.count, set(comparison.skipped)) == ({}, 11, {"broken.jpg"})
    (tmp_path / "p05.png").rename(photos / "p05.png")
    comparison, ran = shown(seen, TWO, photos, store)
    assert ran == {"a": 1, "b": 1}
    alike(comparison, compare(TWO, photos))


def test_listed_photos_of_which_one_vanished(photos: Path, tmp_path: Path, seen: dict[str, int]) -> None:
    chosen = list_photos(photos)
    (photos / "p05.png").unlink()
    comparison, _ = shown(seen, TWO, chosen, tmp_path / "store")
    assert (comparison.count, comparison.skipped["p05.png"]) == (11, "there is no such picture")


def test_another_engine_code_or_feeding_is_noticed(
    photos: Path, tmp_path: Path, seen: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    shown(seen, TWO, photos, store)
    with monkeypatch.context() as patched:
        patched.setattr(variants, "_engines", lambda: {"onnxruntime": "0.0.1"})
        assert shown(seen, TWO, photos, store)[1] == {"a": 12, "b": 12}
    with monkeypatch.context() as patched:
        patched.setattr(variants, "code_digest", lambda *_: "other code")
        assert shown(seen, TWO, photos, store)[1] == {"a": 12, "b": 12}
    made = Lineup((LineupEntry("a", TWO["a"]), LineupEntry("b", base="a", convert="onnx")))
    shown(seen, made, photos, store)
    with monkeypatch.context() as patched:
        patched.setattr(variants, "_TOOLS", ("pytest",))
        assert shown(seen, made, photos, store)[1] == {"b": 12}
    fed = lineup_of(TWO, {"a": replace(FEEDING, scale=1 / 128)})
    assert shown(seen, fed, photos, store)[1] == {"a": 12}
    assert shown(seen, TWO, photos, store)[1] == {}


def test_parts_of_the_agreement_are_made_anew_by_other_code(
    photos: Path, tmp_path: Path, seen: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    shown(seen, TWO, photos, store)
    monkeypatch.setattr(part, "code_digest", lambda *_: "other code")
    assert shown(seen, TWO, photos, store)[1] == {}
    assert len(list((store / "agreement").iterdir())) == 2


@pytest.mark.thorough
def test_another_model_file_is_noticed(photos: Path, tmp_path: Path, seen: dict[str, int]) -> None:
    store, file = tmp_path / "store", tmp_path / "model.onnx"

    def run(seed: int) -> tuple[Comparison, dict[str, int]]:
        classifier(seed).save(file)
        return shown(seen, lineup_of({"a": str(file), "b": TWO["b"]}, FEEDING), photos, store)

    first, ran = run(0)
    assert ran == {"a": 12, "b": 12}
    second, ran = run(5)
    assert ran == {"a": 12}
    assert second.predictions("a", "p00.png") != first.predictions("a", "p00.png")
    again, ran = run(0)
    assert ran == {}
    assert again.predictions("a", "p00.png") == first.predictions("a", "p00.png")


@pytest.mark.thorough
@pytest.mark.parametrize("damage", [b"", b"PAR1", None])
def test_damaged_files_of_the_store_are_made_again(
    photos: Path, tmp_path: Path, seen: dict[str, int], damage: bytes | None
) -> None:
    store = tmp_path / "store"
    whole, _ = shown(seen, TWO, photos, store)
    kept = {p: p.read_bytes() for p in store.rglob("*.*") if p.is_file() and not {"timings", ".writing"} & set(p.parts)}
    for path, content in kept.items():
        path.write_bytes(content[: len(content) // 2] if damage is None else damage)
        again, _ = shown(seen, TWO, photos, store)
        alike(again, whole)
        assert path.read_bytes() == content, path.name
    assert {p for p in store.rglob("*.*") if p.is_file() and not {"timings", ".writing"} & set(p.parts)} == set(kept)


@pytest.mark.thorough
def test_a_shard_with_a_changed_byte_is_named(photos: Path, tmp_path: Path, seen: dict[str, int]) -> None:
    store = tmp_path / "store"
    whole, _ = shown(seen, TWO, photos, store)
    shutil.rmtree(store / "agreement")
    shard = next(p for p in sorted(store.glob("*/*.parquet")) if p.parent.name not in ("slices", "agreement"))
    content = shard.read_bytes()
    shard.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
    with pytest.raises(StoreError, match="cannot be read") as caught:
        compare(TWO, photos, store)
    assert str(shard) in str(caught.value)
    shard.unlink()
    again, ran = shown(seen, TWO, photos, store)
    assert sum(ran.values()) <= 4
    alike(again, whole)


@pytest.mark.thorough
def test_a_model_that_fails_on_one_slice_loses_no_other(
    photos: Path, tmp_path: Path, seen: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, probabilities, calls = tmp_path / "store", Predictor.probabilities, []

    def failing(self: Predictor, batch: Sequence[Any]) -> Any:
        calls.append(self.entry.name)
        if calls.count("b") == 3 and self.entry.name == "b":
            raise RunError("the engine gave up", where="b")
        return probabilities(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(Predictor, "probabilities", failing)
        with pytest.raises(RunError, match="gave up"):
            compare(TWO, photos, store, workers=1)
    assert len(list((store / "slices").iterdir())) == 2
    comparison, ran = shown(seen, TWO, photos, store)
    assert ran["a"] == ran["b"] <= 12 - 7  # broken.jpg stands in the first slice
    alike(comparison, compare(TWO, photos))


@pytest.mark.thorough
def test_one_photo_and_one_model(photos: Path, tmp_path: Path, seen: dict[str, int]) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copyfile(photos / "p00.png", alone / "p00.png")
    for models in ({"a": TWO["a"]}, TWO):
        comparison, _ = shown(seen, models, alone, tmp_path / "store")
        assert comparison.photos == ("p00.png",)
        assert page(comparison, tmp_path / "page").is_file()
        assert comparison.query("SELECT count(*) AS n FROM predictions") == [{"n": len(models)}]
    assert shown(seen, {"a": TWO["a"]}, photos, tmp_path / "store")[1] == {"a": 11}


def test_a_store_on_a_path_with_every_sign(photos: Path, tmp_path: Path, seen: dict[str, int]) -> None:
    store = tmp_path / 'it\'s "a" störe, 100% = [x] {y} * ? 日本'
    comparison, _ = shown(seen, TWO, photos, store)
    assert comparison.query("SELECT count(*) AS n FROM predictions WHERE skipped IS NULL") == [{"n": 24}]
    assert shown(seen, TWO, photos, store)[1] == {}


@pytest.mark.thorough
def test_two_runs_at_once_on_one_store(photos: Path, tmp_path: Path, seen: dict[str, int]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    store = tmp_path / "store"
    with ThreadPoolExecutor(3) as pool:
        both = list(pool.map(lambda _: compare(TWO, photos, store), range(3)))
    alone = compare(TWO, photos, tmp_path / "alone")
    for comparison in both:
        alike(comparison, alone)

    def files(folder: Path) -> dict[str, bytes]:
        wanted = (p for p in folder.rglob("*.*") if p.is_file() and not {"timings", ".writing"} & set(p.parts))
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in wanted}

    assert files(store) == files(tmp_path / "alone")
    assert shown(seen, TWO, photos, store)[1] == {}


@pytest.mark.thorough
def test_a_store_that_is_deleted_meanwhile_is_said(
    photos: Path, tmp_path: Path, seen: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, write_shard = tmp_path / "store", Store.write_shard

    def deleting(self: Store, *arguments: Any) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        write_shard(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "write_shard", deleting)
        with pytest.raises(StoreError, match="deleted while the comparison ran") as caught:
            compare(TWO, photos, store)
    assert str(store) in str(caught.value)
    comparison, _ = shown(seen, TWO, photos, store)
    alike(comparison, compare(TWO, photos))


def test_a_store_that_cannot_be_written_is_said_before_anything_runs(
    photos: Path, tmp_path: Path, seen: dict[str, int]
) -> None:
    (tmp_path / "file").write_text("x")
    for store in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CoreproofError):
            compare(TWO, photos, store)
    assert seen == {}


@pytest.mark.thorough
def test_a_store_that_can_only_be_read_answers_what_it_knows(
    photos: Path, tmp_path: Path, seen: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    first, _ = shown(seen, TWO, photos, store)
    make = Path.mkdir

    def forbid(path: Path, *arguments: Any, **options: Any) -> None:
        if store in path.parents:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        make(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", forbid)
    again, new = shown(seen, TWO, photos, store)
    assert new == {}
    alike(first, again)
    with pytest.raises(StoreError, match="cannot be written") as caught:
        compare({**TWO, "c": classifier(2)}, photos, store)
    assert "--store FOLDER" in str(caught.value)


def test_a_page_that_finds_no_room_is_said(
    photos: Path, tmp_path: Path, seen: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    classifier(0).save(tmp_path / "a.onnx")
    (tmp_path / "lineup.toml").write_text(
        '[models.a]\nsource = "a.onnx"\nfeed = { size = [8, 8], resize = "squash", scale = 0.004 }\n'
    )
    monkeypatch.setattr("coreproof.report.page.page", full)
    with pytest.raises(StoreError, match="the page cannot be written") as caught:
        command(lineup=tmp_path / "lineup.toml", out=tmp_path / "out", photos=str(photos), **vars(NOT_REPORTED))
    assert "the predictions are kept" in str(caught.value)
    assert seen == {"a": 12}
