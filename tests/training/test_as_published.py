"""The released code's behaviour beside the right one: what differs, and that it stays where it was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from takd.analysis.frames import chain_frame
from takd.analysis.verdicts import verdicts_for
from takd.data.catalogue import available_datasets
from takd.evaluation import final, selection
from takd.plan import Arm, Plan, build_plan
from takd.presentation.words import arm_label
from takd.runs.loop import train_all
from takd.runs.store import Store
from takd.spec import require_spec
from takd.training import run_stage as runner
from takd.training.progress import Progress
from takd.training.streams import initial_network

PUBLISHED = (("protocol", "published"),)


def plan_for(**more: object) -> Plan:
    asked = {"dataset": "digits", "budget": "taste", "seeds": 1, "scope": "chain", "method": "takd"}
    asked |= {"teacher": "mlp-32", "assistants": ["mlp-16"], "student": "mlp-8", **more}
    return build_plan(require_spec(asked), available_datasets()["digits"])


def test_the_whole_chain_follows_the_released_code_and_stands_beside_the_right_one() -> None:
    plan = plan_for(options={"protocol": "published"})
    path = ("mlp-32", "mlp-16", "mlp-8")
    assert {Arm("takd", path), Arm("takd", path, PUBLISHED), Arm("kd", (path[0], path[2]), PUBLISHED)} <= set(plan.arms)
    assert plan.chosen.options == PUBLISHED and not plan.chosen.usual
    for arm in plan.arms:
        for key in plan.chains_of(arm)[0].keys:
            recipe, options = plan.stages[key].recipe, dict(plan.stages[key].loss.options)
            faulty = arm.options == PUBLISHED
            assert (recipe.schedule, recipe.selection) == (("constant", "test") if faulty else ("one-cycle", ""))
            assert options == ({"reduction": "mean"} if faulty and plan.stages[key].teachers else {})
    assert "selected on test images" in arm_label(plan.chosen.name)
    usual = {stage.key for stage in plan_for().stages.values()}
    assert usual <= set(plan.stages), "the right chain is the same stages as ever"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Store]:
    plan, store = plan_for(options={"protocol": "published"}), Store(Path(tmp_path_factory.mktemp("published")))
    assert train_all(store, plan.stages, device="cpu", should_stop=lambda: False, say=print)
    return plan, store


def test_the_best_epoch_on_test_images_is_kept(trained: tuple[Plan, Store]) -> None:
    plan, store = trained
    for arm in (arm for arm in plan.arms if arm.options):
        for key in plan.chains_of(arm)[0].keys:
            result, (rows, _) = store.result(key) or {}, store.read_events(key)
            accuracies = [row["test_acc"] for row in rows]
            chosen = result["selected_on_test"]
            assert result["test_acc"] == pytest.approx(max(accuracies)) == accuracies[chosen["epoch"] - 1]
            assert (chosen["epoch"], chosen["looks"]) == (1 + accuracies.index(max(accuracies)), 60)
            assert chosen["last_test_acc"] == pytest.approx(accuracies[-1], abs=1e-6)
            assert all(row["lr"] == rows[0]["lr"] for row in rows)
    right = [plan.chains_of(arm)[0].student for arm in plan.arms if not arm.options]
    for key in right:
        assert "selected_on_test" not in (store.result(key) or {})
        assert not any("test_acc" in row for row in store.read_events(key)[0])


def test_it_is_compared_with_its_like_too(trained: tuple[Plan, Store]) -> None:
    plan, store = trained
    pairs = [(v.arm, v.against) for v in verdicts_for(plan, chain_frame(plan, store))]
    assert (plan.chosen.name, "kd[protocol=published] 32>8") in pairs and (plan.chosen.name, "kd 32>8") in pairs


def test_no_other_stage_looks_at_test_images_while_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Test images are opened once the last epoch is over, and only then."""
    plan, store, seen = plan_for(method="kd", assistants=[]), Store(tmp_path), []
    stage = next(stage for stage in plan.stages.values() if not stage.teachers)
    store.ensure(stage)
    opened = final.load_test

    def watched(data: object) -> object:
        seen.append(len(store.read_events(stage.key)[0]))
        return opened(data)  # type: ignore[arg-type]

    final._test_images.cache_clear()
    monkeypatch.setattr(final, "load_test", watched)
    runner.run_stage(store, stage.key, device="cpu")
    final._test_images.cache_clear()
    assert seen == [60]


def test_resume_keeps_the_best_epoch(
    tmp_path: Path, trained: tuple[Plan, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, whole = trained
    arm = next(arm for arm in plan.arms if arm.options and arm.method == "kd")
    stage = plan.stages[plan.chains_of(arm)[0].keys[0]]
    store = Store(tmp_path)
    store.ensure(stage)
    monkeypatch.setattr(runner, "CHECKPOINT_SECONDS", 0.0)
    looks = iter(range(10_000))
    with pytest.raises(Exception, match="stopped in epoch"):
        runner.run_stage(store, stage.key, device="cpu", should_stop=lambda: next(looks) > 400)
    runner.run_stage(store, stage.key, device="cpu")
    assert store.read_file(stage.key, "weights.safetensors") == whole.read_file(stage.key, "weights.safetensors")
    mine, other = store.result(stage.key) or {}, whole.result(stage.key) or {}
    assert mine["selected_on_test"] == other["selected_on_test"]


def test_weights_that_are_gone_are_an_error(trained: tuple[Plan, Store], tmp_path: Path) -> None:
    plan, _ = trained
    stage = next(stage for stage in plan.stages.values() if stage.recipe.selection)
    with pytest.raises(ValueError, match="missing"):
        selection.take_best(Store(tmp_path), stage, initial_network("mlp-8", 10, 0), Progress([{"epoch": 1.0}]))
