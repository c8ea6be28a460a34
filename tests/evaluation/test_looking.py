"""Loss landscapes and maps: the directions, the losses, the process, and who may ask for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from takd.evaluation import looking as program
from takd.evaluation.landscape import (
    DIRECTIONS,
    LINE,
    PLANE,
    REACH,
    direction,
    landscape,
    loss_at,
    losses,
    rise,
    subset,
)
from takd.evaluation.looks_check import check_looks
from takd.plan import build_plan
from takd.runs import jobs, looking
from takd.runs.errors import RunError
from takd.runs.locks import look_lock, try_acquire
from takd.runs.people import Person
from takd.runs.stamps import StageReport
from takd.runs.store import Store
from takd.training.device import Images
from tests.pages_support import SMALL, train_here

KEY = "0123456789abcdef0123456789abcdef"


def tiny() -> nn.Module:
    torch.manual_seed(3)
    layers = [nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 4 * 4, 5)]
    return nn.Sequential(*layers).eval()


def images() -> Images:
    generator = torch.Generator().manual_seed(1)
    return Images(torch.randn(20, 6, 6, 1, generator=generator), torch.arange(20) % 5)


def test_directions_have_the_norms_of_the_filters() -> None:
    network = tiny()
    found = direction(network, KEY, 0)
    for weight, drawn in zip(network.parameters(), found, strict=True):
        assert drawn.shape == weight.shape
        if weight.dim() < 2:  # biases and batch norm
            assert not drawn.any()
            continue
        for own, other in zip(weight.detach(), drawn, strict=True):
            assert float(other.norm()) == pytest.approx(float(own.norm()), rel=1e-5)
        assert not torch.allclose(weight, drawn)


def test_directions_follow_from_the_key() -> None:
    network = tiny()
    same = zip(direction(network, KEY, 0), direction(network, KEY, 0), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    assert not torch.equal(direction(network, KEY, 0)[0], direction(network, KEY, 1)[0])
    assert not torch.equal(direction(network, KEY, 0)[0], direction(network, KEY[::-1], 0)[0])


def test_the_loss_at_the_middle_is_the_networks_own() -> None:
    network, seen = tiny(), images()
    before = [weight.clone() for weight in network.parameters()]
    own = loss_at(network, seen)
    with torch.no_grad():
        logits = network(seen.pixels.permute(0, 3, 1, 2)).double()
    assert own == pytest.approx(float(nn.functional.cross_entropy(logits, seen.labels)), abs=1e-6)
    line = landscape(network, KEY, seen, "line")
    plane = landscape(network, KEY, seen, "plane")
    assert line is not None and plane is not None
    assert len(line["loss"]) == 41 and line["places"] == list(LINE) and LINE[20] == 0
    assert len(plane["loss"]) == 441 and plane["places"] == list(PLANE) and PLANE[10] == 0
    assert line["loss"][20] == pytest.approx(own, rel=1e-5)
    assert plane["loss"][10 * 21 + 10] == pytest.approx(own, rel=1e-5)
    # the middle row of the plane lies on the line
    assert plane["loss"][10 * 21 : 11 * 21] == pytest.approx(line["loss"][::2], rel=1e-4)
    assert max(line["loss"]) > own + 0.01
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_a_step_is_weights_plus_share_times_direction() -> None:
    network, seen = tiny(), images()
    drawn = direction(network, KEY, 0)
    (found,) = losses(network, seen, iter([(0.5,)]), [drawn])
    with torch.no_grad():
        for weight, one in zip(network.parameters(), drawn, strict=True):
            weight += 0.5 * one
    assert found == pytest.approx(loss_at(network, seen), rel=1e-6)


def test_a_rise_is_the_mean_over_directions_and_both_ways() -> None:
    """Worked out in float64 NumPy for a linear network."""
    torch.manual_seed(5)
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 5)).eval()
    seen = images()
    weight, bias = (one.detach().double().numpy() for one in network.parameters())
    pixels, labels = seen.pixels.double().numpy().reshape(20, 36), seen.labels.numpy()

    def loss(w: np.ndarray) -> float:
        z = pixels @ w.T + bias
        return float(np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(20), labels]))

    drawn = [direction(network, KEY, number)[0].double().numpy() for number in range(10)]
    rises = [(loss(weight + 0.5 * d) + loss(weight - 0.5 * d)) / 2 - loss(weight) for d in drawn]
    found = rise(network, KEY, seen)
    assert found is not None and (DIRECTIONS, REACH) == (10, 0.5)
    assert found["rise"] == pytest.approx(float(np.mean(rises)), rel=1e-4) and found["rise"] > 0
    assert found["spread"] == pytest.approx(float(np.std(rises, ddof=1)), rel=1e-3)
    assert found["loss"] == pytest.approx(loss(weight), rel=1e-5)
    assert found["images"] == 20
    assert torch.equal(network[1].weight.double(), torch.from_numpy(weight))  # type: ignore[union-attr,arg-type,operator]
    assert rise(network, KEY, seen, lambda share: share > 0.5) is None


def test_stopping_keeps_nothing_and_puts_the_weights_back() -> None:
    network = tiny()
    before = [weight.clone() for weight in network.parameters()]
    assert landscape(network, KEY, images(), "line", lambda share: share > 0.2) is None
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_a_map_is_the_same_each_time_and_keeps_groups_together() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    logits = rng.normal(size=(120, 3)) + 40 * labels[:, None]
    one, two = program.map_of(logits, 60), program.map_of(logits, 60)
    assert one == two and len(one["images"]) == 60 == len(one["x"])
    points = np.column_stack([one["x"], one["y"]])
    distances = np.linalg.norm(points[:, None] - points[None], axis=2) + 9.0 * np.eye(60)
    own = labels[one["images"]]
    assert (own[distances.argmin(1)] == own).mean() > 0.95


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(store, data): one small study."""
    root = tmp_path_factory.mktemp("looked")
    patch = pytest.MonkeyPatch()
    patch.setenv("TAKD_DATA", str(root / "data"))
    train_here(SMALL, root / "store")
    patch.undo()
    return root / "store", root / "data"


def test_the_process_looks_at_stored_networks(trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from takd.data.catalogue import available_datasets

    root, data = trained
    monkeypatch.setenv("TAKD_DATA", str(data))
    store = Store(root)
    stage = list(build_plan(SMALL, available_datasets()["digits"]).stages.values())[-1]
    assert program.main(["--store", str(root), "--what", "line", "--id", "a", stage.key]) == program.DONE
    row = looking.read_look(store, stage.key, "line")
    assert row is not None and row["images"] == 500  # all there are
    from takd.evaluation.weights_check import stored_network

    network = stored_network(store, stage, store.read_file(stage.key, "weights.safetensors"))
    assert row["loss"][20] == pytest.approx(loss_at(network, subset(stage.data, stage.seed)), rel=1e-5)
    (looking.folder(store) / f"{stage.key}-line.json").unlink()
    assert program.main(["--store", str(root), "--what", "line", stage.key]) == program.DONE
    again = looking.read_look(store, stage.key, "line")
    assert again is not None and again | {"seconds": row["seconds"]} == row
    assert program.main(["--store", str(root), "--what", "map", stage.key]) == program.DONE
    found = looking.read_look(store, stage.key, "map")
    assert found is not None and len(found["x"]) == 600
    now = looking.looking(store)
    assert now is not None and now.state == "done" and not now.active


@pytest.mark.parametrize(
    ("change", "caught"),
    [
        ({}, []),
        ({"rise": 9.0}, ["look: rise.rise"]),
        ({"images": None}, ["look: rise.images"]),
        ({"loss": "x"}, ["look: rise.loss"]),
    ],
)
def test_a_stored_look_is_checked_by_looking_again(
    change: dict[str, object], caught: list[str], trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from takd.data.catalogue import available_datasets

    root, data = trained
    monkeypatch.setenv("TAKD_DATA", str(data))
    store = Store(root)
    key = next(iter(build_plan(SMALL, available_datasets()["digits"]).stages))
    assert program.main(["--store", str(root), "--what", "rise", "--id", "a", key]) == program.DONE
    row = looking.read_look(store, key, "rise")
    assert row is not None and row["seconds"] >= 0
    assert set(row["env"]) == {"device_name", "platform", "python", "commit", "torch"}
    looking.write_look(store, key, "rise", row | change)
    before = {key: StageReport(key, "", (), {}, (), 0, False, {})}
    after = check_looks(store, before)[key]
    assert after.checked == ("look: rise",) and [one.what for one in after.differences] == caught
    assert check_looks(store, before, lambda: True) == before
    (looking.folder(store) / f"{key}-rise.json").unlink()


def test_what_is_not_there_is_said(trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from takd.data.catalogue import available_datasets

    root, data = trained
    monkeypatch.setenv("TAKD_DATA", str(data))
    stage = next(iter(build_plan(SMALL, available_datasets()["digits"]).stages.values()))
    assert program.main(["--store", str(root), "--what", "line", "f" * 32]) == program.FAILED
    now = looking.looking(Store(root))
    assert now is not None and now.state == "failed" and "not here any more" in now.text
    lock = look_lock(root)
    assert try_acquire(lock, timeout=1.0)
    try:
        assert program.main(["--store", str(root), "--what", "line", stage.key]) == program.BUSY
    finally:
        lock.release()


def test_only_finished_stages_are_looked_at(trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(trained[0])
    started: list[list[str]] = []
    monkeypatch.setattr(jobs, "start_detached", lambda store, arguments, *rest: started.append(arguments))
    key = next(iter(store.root.glob("stages/*/*"))).name
    for what, keys in (("line", []), ("line", ["../x"]), ("line", ["0" * 32]), ("other", [key]), ("line", [key] * 13)):
        with pytest.raises(RunError):
            looking.start(store, what, keys)
    ada, ben = Person("a" * 16, "Ada"), Person("b" * 16, "Ben")
    looking.start(store, "line", [key], ada)
    assert started == [["--what", "line", key, "--id", started[0][4], "--owner", ada.id]]
    with pytest.raises(RunError, match="already"):
        looking.start(store, "line", [key], ada)
    with pytest.raises(RunError, match="Somebody else"):
        looking.stop(store, ben)
    looking.stop(store, ada)
    assert (looking.folder(store) / jobs.CANCEL).exists()
    (looking.folder(store) / jobs.PROGRESS).unlink()


def test_damaged_looks_count_as_none(tmp_path: Path) -> None:
    store = Store(tmp_path)
    looking.folder(store).mkdir()
    path = looking.folder(store) / f"{KEY}-line.json"
    for raw in (b"", b"[]", b'{"schema": 1}', b'{"schema": 1, "key": "x", "what": "line"}'):
        path.write_bytes(raw)
        assert looking.read_look(store, KEY, "line") is None
    assert looking.read_look(store, "../" + KEY, "line") is None
