"""The plan: controls, merged stages, keys that change exactly when the training does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from takd.data.table import DATASETS
from takd.methods.table import METHODS
from takd.plan import Arm, arms_for, build_plan
from takd.spec import ExperimentSpec, SpecError, require_spec, start_for, to_json
from takd.stage import StageSpec

CIFAR = DATASETS["cifar10"]
DIGITS = replace(DATASETS["digits"], fingerprint="0" * 64)
CHAIN = ExperimentSpec(scope="chain", seeds=2)


def test_a_comparison_brings_its_controls() -> None:
    assert [a.name for a in arms_for(CHAIN, CIFAR)] == ["scratch 2", "kd 10>2", "takd 10>4>2"]
    assert [a.name for a in arms_for(replace(CHAIN, method="kd", assistants=()), CIFAR)] == ["scratch 2", "kd 10>2"]
    assert [a.name for a in arms_for(replace(CHAIN, method="scratch", assistants=()), CIFAR)] == ["scratch 2"]


def test_the_ladder_adds_every_teacher_and_every_single_assistant() -> None:
    names = [a.name for a in arms_for(ExperimentSpec(), CIFAR)]
    assert names == [
        "scratch 2", "kd 10>2", "kd 8>2", "kd 6>2", "kd 4>2", "takd 10>8>2", "takd 10>6>2", "takd 10>4>2",
    ]  # fmt: skip


def test_sizes_between_the_rungs_join_where_they_are_chosen() -> None:
    names = [a.name for a in arms_for(replace(ExperimentSpec(), assistants=("plain-7", "plain-3")), CIFAR)]
    swept = [8, 7, 6, 4, 3]
    assert names == [
        "scratch 2", "kd 10>2", *(f"kd {n}>2" for n in swept), *(f"takd 10>{n}>2" for n in swept), "takd 10>7>3>2",
    ]  # fmt: skip


def test_identical_trainings_are_one_stage() -> None:
    # 8 arms name 1 + 4*2 + 3*3 = 18 networks; the teacher appears 4 times, so 15 trainings are left per seed
    assert len(build_plan(replace(ExperimentSpec(), seeds=1), CIFAR).stages) == 15
    assert len(build_plan(replace(ExperimentSpec(), seeds=3), CIFAR).stages) == 45


def test_three_chains_share_their_teacher() -> None:
    plan = build_plan(replace(ExperimentSpec(), seeds=1), CIFAR)
    chains = [c for c in plan.chains if c.arm.method == "takd"]
    assert len(chains) == 3
    assert len({c.keys[0] for c in chains}) == 1
    assert len({c.keys[1] for c in chains}) == 3


def test_taste_study_is_the_one_described() -> None:
    plan = build_plan(start_for("digits"), DATASETS["digits"])
    kd = [a for a in plan.arms if a.method == "kd"]
    assert len(kd) == 5
    assert len(plan.stages) == 19 * 8


def test_every_teacher_precedes_its_pupils_and_belongs_to_the_same_seed() -> None:
    plan = build_plan(replace(ExperimentSpec(), assistants=("plain-8", "plain-6", "plain-4")), CIFAR)
    seen: set[str] = set()
    for key, stage in plan.stages.items():
        assert key == stage.key
        assert set(stage.teachers) <= seen
        assert all(plan.stages[t].seed == stage.seed for t in stage.teachers)
        seen.add(key)


def test_takd_is_a_path_each_network_taught_by_its_predecessor_only() -> None:
    plan = build_plan(replace(CHAIN, assistants=("plain-8", "plain-4"), seeds=1), CIFAR)
    (chain,) = plan.chains_of(plan.chosen)
    for earlier, later in zip(chain.keys, chain.keys[1:], strict=False):
        assert plan.stages[later].teachers == (earlier,)
    assert plan.stages[chain.keys[0]].teachers == ()


CHANGES = [
    {"temperature": 2.0}, {"lam": 0.9}, {"noise": 0.1}, {"budget": "taste"}, {"dataset": "cifar100"},
    {"teacher": "plain-8"},
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_the_weights_changes_the_students_key(change: dict) -> None:
    def student(spec: ExperimentSpec) -> str:
        plan = build_plan(spec, DATASETS[spec.dataset])
        return plan.chains_of(plan.chosen)[0].student

    assert student(CHAIN) != student(replace(CHAIN, **change))


def test_every_network_of_a_mixed_chain_has_its_own_familys_recipe() -> None:
    """TAKD trains an in-process teacher with the student's learning-rate rule."""
    spec = ExperimentSpec(teacher="resnet-20", assistants=(), student="plain-2", method="kd", budget="paper", seeds=1)
    plan = build_plan(replace(spec, scope="chain"), CIFAR)
    recipes = {stage.network: stage.recipe for stage in plan.stages.values()}
    assert (recipes["resnet-20"].lr, recipes["resnet-20"].schedule) == (0.1, "step")
    assert (recipes["plain-2"].lr, recipes["plain-2"].schedule) == (0.01, "constant")


def test_t_and_lam_do_not_touch_a_network_that_nobody_teaches() -> None:
    plans = [build_plan(replace(CHAIN, temperature=t, lam=lam), CIFAR) for t, lam in ((4.0, 0.9), (1.0, 0.1))]
    lone = [{k for k, s in plan.stages.items() if not s.teachers} for plan in plans]
    assert lone[0] == lone[1]


def test_names_seeds_and_scope_do_not_change_keys() -> None:
    wide, narrow = build_plan(replace(CHAIN, scope="ladder", seeds=5), CIFAR), build_plan(CHAIN, CIFAR)
    assert set(narrow.stages) <= set(wide.stages)
    shifted = build_plan(replace(CHAIN, seed=1, seeds=1), CIFAR)
    assert set(shifted.stages) <= set(narrow.stages)


def test_a_stage_survives_its_bytes_and_nothing_else_does() -> None:
    stage = next(iter(build_plan(CHAIN, CIFAR).stages.values()))
    raw = stage.canonical()
    assert StageSpec.from_bytes(raw) == stage
    for bad in (
        raw.replace(b'"seed": 0', b'"seed": 0.0'),
        raw.replace(b'"seed": 0', b'"seed": 0, "seed": 0'),
        raw + b" ",
        b"\xef\xbb\xbf" + raw,
        raw.replace(b'"schema": 1', b'"schema": 2'),
        raw[:-20],
        b"[]",
        b"{}",
        b"[" * 50_000,
    ):
        with pytest.raises(ValueError, match=r"stage\.json"):
            StageSpec.from_bytes(bad)


def test_keys_are_stable() -> None:
    """Cached runs are found by these keys: if this fails, every stored stage is orphaned."""
    plan = build_plan(replace(CHAIN, seeds=1), CIFAR)
    assert next(iter(plan.stages)) == KEY_OF_SCRATCH_2


KEY_OF_SCRATCH_2 = "e8861b7b78781ff970e23b98e7a6c754"


def test_a_data_set_without_fingerprint_has_no_keys() -> None:
    with pytest.raises(ValueError, match="prepared"):
        build_plan(CHAIN, replace(CIFAR, fingerprint=None))


def test_small_data_sets_give_what_they_have() -> None:
    small = replace(CIFAR, train_pool=1000, validation=100)
    plan = build_plan(replace(CHAIN, budget="taste"), small)
    assert {s.data.train_images for s in plan.stages.values()} == {900}


def test_method_rows_say_who_teaches_whom() -> None:
    assert METHODS["kd"].teachers_of(1) == METHODS["takd"].teachers_of(1) == (0,)
    assert METHODS["takd"].teachers_of(3) == (2,)
    assert METHODS["scratch"].teachers_of(1) == ()
    assert all(m.formula and m.reference and m.help and m.cost for m in METHODS.values())


def test_assistants_may_be_left_alone() -> None:
    """Then dense guidance is the average of networks trained alone: they are the ladder's own scratch trainings, and
    the student's loss is that of dense guidance as ever."""
    asked = {"dataset": "digits", "assistants": ["mlp-64", "mlp-16"], "seeds": 1, "scope": "chain", "method": "dgkd"}
    dense, average = (
        build_plan(require_spec({**asked, "options": options}), DIGITS) for options in ({}, {"assistants": "alone"})
    )
    alone = [average.stages[key] for key in average.chains_of(average.chosen)[0].keys]
    taught = [dense.stages[key] for key in dense.chains_of(dense.chosen)[0].keys]
    assert [(stage.loss.name, len(stage.teachers)) for stage in alone] == [("ce", 0), ("ce", 0), ("ce", 0), ("dgkd", 3)]
    assert [(stage.loss.name, len(stage.teachers)) for stage in taught] == [
        ("ce", 0),
        ("kd", 1),
        ("dgkd", 2),
        ("dgkd", 3),
    ]
    assert (alone[-1].loss, alone[-1].recipe) == (taught[-1].loss, taught[-1].recipe)
    scratch = build_plan(replace(average.spec, method="scratch"), DIGITS, (Arm("scratch", ("mlp-16",)),))
    assert alone[2].key in scratch.stages


def test_mixed_families_are_named_in_full() -> None:
    assert Arm("kd", ("resnet-20", "plain-2")).name == "kd resnet-20>plain-2"


def test_methods_share_what_is_the_same_training() -> None:
    """Dense guidance differs from the chain where a network has several teachers; gates concern the student alone."""
    asked = {"dataset": "digits", "assistants": ["mlp-64", "mlp-16"], "seeds": 1, "scope": "chain"}
    plans = {
        name: build_plan(require_spec({**asked, "method": method, "options": options}), DIGITS)
        for name, method, options in (
            ("dense", "dgkd", {}),
            ("gated", "dgkd", {"gate": "drop-one"}),
            ("chain", "takd", {}),
        )
    }
    keys = {name: plan.chains_of(plan.chosen)[0].keys for name, plan in plans.items()}
    assert keys["dense"][:2] == keys["gated"][:2] == keys["chain"][:2]
    assert keys["dense"][2] == keys["gated"][2] != keys["chain"][2]
    assert len({key[3] for key in keys.values()}) == 3
    dense = plans["dense"]
    assert [len(dense.stages[key].teachers) for key in keys["dense"]] == [0, 1, 2, 3]
    assert Arm("takd", dense.chosen.path) in dense.arms  # what it is held against
    assert plans["gated"].chosen.name == "dgkd[gate=drop-one] 256>64>16>8"
    assert not plans["gated"].chosen.usual and plans["chain"].chosen.usual


def test_a_stage_without_options_is_written_as_before() -> None:
    """Keys of present stores: the field came later."""
    plan = build_plan(require_spec({"dataset": "digits", "seeds": 1}), DIGITS)
    for stage in plan.stages.values():
        assert b"options" not in stage.canonical()
        assert StageSpec.from_bytes(stage.canonical()) == stage
    gated = build_plan(
        require_spec({**to_json(plan.spec), "method": "kd", "assistants": [], "options": {"reduction": "mean"}}), DIGITS
    )
    student = gated.stages[gated.chains_of(gated.chosen)[0].student]
    assert b'"reduction": "mean"' in student.canonical()
    assert StageSpec.from_bytes(student.canonical()) == student


@pytest.mark.parametrize(("measure", "epochs"), [("trainings", 180), ("macs", 60 + round(60 * (4736 + 1184) / 592))])
def test_the_whole_budget_goes_into_a_longer_training(measure: str, epochs: int) -> None:
    """60 epochs of the student and 60 of each of two assistants, or as many as their multiply-accumulates pay for."""
    asked = {"dataset": "digits", "method": "kd-long", "assistants": ["mlp-64", "mlp-16"], "seeds": 1}
    spec = require_spec({**asked, "options": {"measure": measure}})
    plan = build_plan(spec, DIGITS)
    (chain,) = plan.chains_of(plan.chosen)
    assert plan.chosen.path == ("mlp-256", "mlp-8")
    student = plan.stages[chain.student]
    assert student.recipe.epochs == epochs
    assert student.teachers == (chain.keys[0],)
    assert {Arm("kd", ("mlp-256", "mlp-8")), Arm("takd", spec.path)} <= set(plan.arms)


def test_the_whole_budget_counts_images_where_budgets_differ_in_them() -> None:
    """wrn: 4 epochs of 3,000 images; plain-2: 5 of 5,000. So 2.4 epochs more, and not 4."""
    asked = {"method": "kd-long", "teacher": "wrn-16-8", "assistants": ["wrn-16-2"], "student": "plain-2"}
    plan = build_plan(require_spec({**asked, "budget": "taste", "seeds": 1}), replace(CIFAR, fingerprint="0" * 64))
    assert plan.stages[plan.chains_of(plan.chosen)[0].student].recipe.epochs == 7


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_an_ensemble_is_the_teacher_at_other_seeds_with_the_same_labels(noise: float) -> None:
    asked = {"dataset": "digits", "noise": noise, "method": "ensemble", "assistants": [], "seeds": 2, "scope": "chain"}
    plan = build_plan(require_spec({**asked, "options": {"members": 3}}), DIGITS)
    (first, second) = plan.chains_of(plan.chosen)
    assert first.arm.path == ("mlp-256", "mlp-8") and len(first.beside) == 2
    student = plan.stages[first.student]
    assert (student.loss.name, student.loss.options) == ("dgkd", ()), "the mean of the terms, without a word of members"
    assert student.teachers == (*first.beside, first.keys[0]) and not set(first.beside) & set(second.beside)
    own, *others = (plan.stages[key] for key in (first.keys[0], *first.beside))
    assert len({stage.seed for stage in (own, *others)}) == 3
    assert {stage.noise_seed for stage in (own, *others)} == ({own.seed} if noise else {s.seed for s in (own, *others)})
    assert all(replace(stage, seed=own.seed, data=own.data) == own for stage in others)
    assert b"noise_shift" not in own.canonical() and (b"noise_shift" in others[0].canonical()) == bool(noise)
    direct = build_plan(require_spec({**asked, "method": "kd", "seed": others[0].seed}), DIGITS)
    assert (others[0].key in direct.stages) == (not noise), "without wrong labels it is an ordinary training"


def test_the_finished_teacher_has_a_turn_on_every_route() -> None:
    """plain: 5 epochs at taste, resnet: 3. A route of four anchors would end before the finished teacher."""
    asked = {"method": "rco", "teacher": "plain-10", "student": "resnet-8", "assistants": [], "budget": "taste"}
    plan = build_plan(require_spec({**asked, "seeds": 1}), CIFAR)
    student = plan.stages[plan.chains_of(plan.chosen)[0].student]
    assert [plan.stages[key].recipe.last for key in student.teachers] == [2, 3, 5]
    early = [stage.recipe.until for stage in plan.stages.values()]
    assert early[:2] == [2, 3] and not any(early[2:]), "what ends early is trained before what goes on from there"


def test_as_published_is_refused_where_the_released_code_has_another_schedule() -> None:
    asked = {"method": "kd", "teacher": "resnet-20", "student": "resnet-8", "assistants": []}
    with pytest.raises(SpecError, match="another schedule"):
        require_spec({**asked, "options": ["protocol:published"]})
