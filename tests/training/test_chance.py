"""Networks that learn nothing get a note, those whose loss never moves a failure; damage to data and weights a name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from takd.data.meta import DataError
from takd.plan import Plan
from takd.runs.errors import StageFailed
from takd.runs.store import Store
from takd.stage import StageSpec
from takd.training import chance, device, run_stage
from takd.training.chance import note_on
from takd.training.checkpoints import checkpoint_bytes, load_checkpoint
from takd.training.progress import Progress
from tests.training.test_run_stage import chain, plan, store  # noqa: F401

LABELS = torch.arange(500) % 10


def rows(*accuracies: float, loss: float = 2.0) -> list[dict[str, float]]:
    return [{"loss": loss - i / 100, "val_acc": value} for i, value in enumerate(accuracies)]


def test_chance_level_is_said_after_a_third_of_the_epochs() -> None:
    assert note_on(rows(0.1, 0.1, 0.1), 12, LABELS) == ""  # four are a third
    note = note_on(rows(0.1, 0.11, 0.1, 0.12), 12, LABELS)
    assert "chance level after 4 of 12" in note and note.endswith(".")
    assert note_on(rows(0.1, 0.11, 0.1, 0.2), 12, LABELS) == ""
    assert note_on(rows(0.1, 0.1, 0.1, 0.1, 0.9), 12, LABELS) == note_on(rows(0.1, 0.1, 0.1, 0.1), 12, LABELS) != ""
    lopsided = torch.tensor([0] * 450 + [1] * 50)
    assert "guessing gives 90.0%" in note_on(rows(0.9, 0.9, 0.9), 3, lopsided)
    assert note_on(rows(0.1, 0.1), 2, LABELS) == ""  # too short to tell


def test_a_constant_loss_is_a_failure() -> None:
    same = [{"loss": 2.302585, "val_acc": 0.1}] * 4
    with pytest.raises(StageFailed, match="first 4 epochs") as caught:
        note_on(same, 12, LABELS)
    assert caught.value.cause_class == "constant-loss"
    assert note_on(same[:3], 12, LABELS) == ""


def at_rate(lr: float, plan: Plan, store: Store) -> StageSpec:  # noqa: F811
    """The plan's teacher at another learning rate, ready to be trained."""
    teacher, _ = chain(plan)
    stage = replace(teacher, recipe=replace(teacher.recipe, lr=lr))
    store.ensure(stage)
    return stage


def test_a_training_killed_before_its_commit_says_the_same(
    plan: Plan,  # noqa: F811
    store: Store,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its checkpoint is of the last epoch: no epoch is left after which the note could be made."""
    slow = at_rate(1e-7, plan, store)
    monkeypatch.setattr(chance, "_DEVIATIONS", 100.0)
    monkeypatch.setattr(run_stage, "CHECKPOINT_SECONDS", 0.0)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_stage, "evaluate", killed)
        with pytest.raises(KeyboardInterrupt):
            run_stage.run_stage(store, slow.key, device="cpu")
    run_stage.run_stage(store, slow.key, device="cpu")
    result = store.result(slow.key)
    assert result is not None and "Still at chance level" in result["note"]


def test_a_network_that_learns_nothing(
    plan: Plan,  # noqa: F811
    store: Store,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    slow, stuck = (at_rate(lr, plan, store) for lr in (1e-7, 0.0))
    monkeypatch.setattr(chance, "_DEVIATIONS", 100.0)  # all is chance
    run_stage.run_stage(store, slow.key, device="cpu")
    result = store.result(slow.key)
    assert result is not None and "chance level after 3 of 3" in result["note"]
    assert "chance level" in capsys.readouterr().out
    with pytest.raises(StageFailed) as caught:
        run_stage.run_stage(store, stuck.key, device="cpu")
    assert caught.value.cause_class == "constant-loss" and not store.is_done(stuck.key)


def test_data_that_is_removed_under_a_run_has_a_name(
    plan: Plan,  # noqa: F811
    store: Store,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    teacher, _ = chain(plan)
    store.ensure(teacher)

    def gone(*_: object) -> None:
        raise DataError("The images of digits are gone; prepare them again.")

    monkeypatch.setattr(run_stage, "evaluate", gone)
    with pytest.raises(StageFailed, match="prepare") as caught:
        run_stage.run_stage(store, teacher.key, device="cpu")
    assert caught.value.cause_class == "bad-data"


def test_arrays_that_are_torn_or_gone_are_bad_data(plan: Plan, store: Store, tmp_path: Path) -> None:  # noqa: F811
    device._prepared.cache_clear()
    teacher, _ = chain(plan)
    store.ensure(teacher)
    run_stage.run_stage(store, teacher.key, device="cpu")
    (folder,) = [path.parent for path in tmp_path.glob("data/**/train_x.npy")]
    raw = (folder / "train_x.npy").read_bytes()
    for harm in (raw[: len(raw) // 2], b"", None):
        device._prepared.cache_clear()
        (folder / "train_x.npy").unlink(missing_ok=True)
        if harm is not None:
            (folder / "train_x.npy").write_bytes(harm)
        other = replace(teacher, seed=teacher.seed + 1)
        store.ensure(other)
        with pytest.raises(StageFailed) as caught:
            run_stage.run_stage(store, other.key, device="cpu")
        assert caught.value.cause_class == "bad-data", caught.value
    (folder / "train_x.npy").write_bytes(raw)
    device._prepared.cache_clear()
    assert np.load(folder / "train_x.npy").ndim == 4


def test_foreign_weights_of_a_teacher_have_a_name(plan: Plan, store: Store) -> None:  # noqa: F811
    teacher, pupil = chain(plan)
    for stage in (teacher, pupil):
        store.ensure(stage)
    run_stage.run_stage(store, teacher.key, device="cpu")
    result = dict(store.result(teacher.key) or {})
    answers = store.read_file(teacher.key, "predictions.npz")
    foreign = {"weights.safetensors": save({"other": torch.zeros(2)}), "predictions.npz": answers}
    store.commit(teacher.key, result, foreign)
    with pytest.raises(StageFailed, match="Delete the folder") as caught:
        run_stage.run_stage(store, pupil.key, device="cpu")
    assert caught.value.cause_class == "bad-parent"


@pytest.mark.parametrize("rows_text", ["7", "null", "[[1]]", '{"a": 1}', "nonsense"])
def test_a_checkpoint_with_foreign_rows_is_not_used(rows_text: str) -> None:
    network = torch.nn.Linear(2, 2)
    good = checkpoint_bytes(network, Progress([{"epoch": 1.0}]))
    assert load_checkpoint(network, good).rows == [{"epoch": 1.0}]
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    with pytest.raises(ValueError, match="cannot be used"):
        load_checkpoint(network, save(tensors, metadata={"rows": rows_text}))
