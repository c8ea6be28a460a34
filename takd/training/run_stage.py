"""Train stages of the store from their specs to their results. The worker calls this; it calls everything else."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import torch
from torch import nn

from takd.answers import looks_inside
from takd.data.meta import DataError
from takd.evaluation import selection
from takd.evaluation.final import evaluate
from takd.evaluation.weights_check import teacher_answers
from takd.methods.table import form_of
from takd.networks.table import NetworkError, family_of
from takd.runs.copies import taught_by
from takd.runs.errors import StageFailed, StoreError
from takd.runs.layout import SELECTED
from takd.runs.memory import SPARED
from takd.runs.store import Store
from takd.stage import StageSpec
from takd.training import fused, mlp_batch
from takd.training.chance import judged_after, note_on
from takd.training.checkpoints import checkpoint_bytes, load_checkpoint, peak_memory_mb, weights_bytes
from takd.training.device import TrainingData, environment, on_device, pick_device, training_data, uses_bf16
from takd.training.engine import Engine, reference_mode
from takd.training.loop import train
from takd.training.many import Member, side_by_side, train_many
from takd.training.mlp_batch import Pupil, train_mlps
from takd.training.progress import Hooks, Progress, numbers_of
from takd.training.spare_memory import or_in_less_memory, way_to_spare
from takd.training.teachers import (
    Teacher,
    TeacherLogits,
    load_teacher,
    observed_teachers_of,
    teacher_logits,
    teachers_of,
)
from takd.training.trainees import kept, trainee_for

CHECKPOINT_SECONDS = 5.0  # tiny networks finish before the first one; long ones lose at most an epoch
COMMIT_TOGETHER = 16  # tiny stages: each commit waits for the disk
_GOES_ON = "continue.safetensors"  # a checkpoint at the end of a training that another one goes on from
EVENTS_SECONDS = 0.5  # a batch of tiny networks ends hundreds of epochs a second


@dataclass(frozen=True)
class Job:
    """One stage on its way: where it stands, what it learns from."""

    stage: StageSpec
    network: nn.Module
    data: TrainingData
    device: torch.device
    bf16: bool
    progress: Progress
    spared: str = ""  # how it is trained in less memory (memory.SPARED)


def run_stage(
    store: Store,
    key: str,
    *,
    device: str = "auto",
    should_stop: Callable[[], bool] = lambda: False,
    report: Callable[[dict[str, Any]], None] = lambda _: None,
) -> None:
    """Train, evaluate and commit one stage; the caller holds its lock.

    Raises StageStopped after a stop (the checkpoint stays) and StageFailed with a sentence for named failures.
    """
    failed = run_stages(
        store, [key], device=device, should_stop=should_stop, report=lambda _, row: report(row), pupils={}
    )
    for failure in failed.values():
        raise failure


def run_stages(
    store: Store,
    keys: Sequence[str],
    *,
    device: str = "auto",
    should_stop: Callable[[], bool] = lambda: False,
    report: Callable[[str, dict[str, Any]], None] = lambda _, __: None,
    pupils: Mapping[str, int],
) -> dict[str, StageFailed]:
    """Train, evaluate and commit stages that can be trained together (takd.batching); the caller holds their locks.

    `pupils` says how many stages of the run learn from each teacher. Returns what failed, by key; the others are
    committed. Raises StageStopped after a stop: checkpoints stay, nothing unfinished is committed.
    """
    target = pick_device(device)
    failed: dict[str, StageFailed] = {}
    jobs: list[Job] = []
    for key in keys:
        with _Named(failed, key):
            jobs.append(_job(store, key, target))
    together = [job for job in jobs if not reference_mode() and mlp_batch.fits(job.stage, target.type)]
    failed |= _run_mlps(store, together, should_stop, report)
    jobs = [job for job in jobs if job not in together]
    if side_by_side([job.network for job in jobs], target):
        failed |= _run_many(store, jobs, should_stop, report, pupils)
    else:
        for stage in [job.stage for job in jobs]:
            with _Named(failed, stage.key):
                _run_alone(store, jobs, should_stop, report, pupils)
    return failed


def warm_up() -> None:
    """Load what the first stage would have to wait for: the optimiser and the compiled kernels."""
    network = nn.Linear(1, 1)
    torch.optim.SGD(network.parameters(), lr=0.1, fused=True).zero_grad()
    mlp_batch.warm_up()
    fused.warm_up()


class _Named:
    """Turns the errors of one stage into a failure with a name, and lets the others go on."""

    def __init__(self, failed: dict[str, StageFailed], key: str) -> None:
        self.failed, self.key = failed, key

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, StageFailed):
            self.failed[self.key] = error
        elif isinstance(error, DataError):
            self.failed[self.key] = StageFailed("bad-data", str(error))
        elif isinstance(error, NetworkError):
            self.failed[self.key] = StageFailed("bad-network", str(error))
        elif isinstance(error, StoreError):
            self.failed[self.key] = StageFailed("bad-parent", str(error))
        elif isinstance(error, torch.OutOfMemoryError):
            self.failed[self.key] = StageFailed(
                "out-of-memory",
                "The device ran out of memory. Close other programs that use it, or choose a smaller network, then "
                "resume.",
            )
        else:
            return False
        return True


def _job(store: Store, key: str, device: torch.device) -> Job:
    stage = store.stage(key)
    if stage is None:
        raise StageFailed("bad-stage", f"Stage {key} has no readable stage.json; start the run again.")
    bf16 = not reference_mode() and uses_bf16(device, stage.recipe.precision)
    data = training_data(stage.data, stage.noise_seed, device, bf16)
    network = on_device(_trainee(store, stage, device), device)
    progress = _resume(store, key, network) or _earlier(store, stage, network) or Progress()
    store.rewrite_events(key, progress.rows)
    return Job(stage, network, data, device, bf16, progress)


def _trainee(store: Store, stage: StageSpec, device: torch.device) -> nn.Module:
    """What the stage trains, with its initial weights."""
    teacher = store.stage(stage.teachers[0]) if stage.teachers else None
    return trainee_for(
        stage, lambda: load_teacher(store, stage.teachers[0], device), teacher.network if teacher is not None else ""
    )


def _earlier(store: Store, stage: StageSpec, network: nn.Module) -> Progress | None:
    """Where another stage has ended that is this one's own training up to some epoch: from there it goes on, as if it
    had been interrupted. Only for networks that take longer than looking for it."""
    if stage.teachers or family_of(stage.network) == "mlp" or form_of(stage.loss) != "network":
        return None
    for epoch in range(stage.recipe.last - 1, 0, -1):
        key = replace(stage, recipe=replace(stage.recipe, until=epoch)).key
        if store.is_done(key) and (raw := store.read_extra(key, _GOES_ON)) is not None:
            return _fill_from(network, raw)
    return None


def _run_mlps(
    store: Store, jobs: Sequence[Job], should_stop: Callable[[], bool], report: Callable[[str, dict[str, Any]], None]
) -> dict[str, StageFailed]:
    """All jobs in one compiled pass."""
    failed: dict[str, StageFailed] = {}
    pupils: list[Pupil] = []
    ready: list[Job] = []
    for job in jobs:
        with _Named(failed, job.stage.key):
            heard = job.stage.teachers
            answers = [teacher_logits(store, key, job.stage, job.data, job.device, job.bf16) for key in heard]
            hooks = _hooks(store, job, should_stop, report, EVENTS_SECONDS)
            pupils.append(Pupil(job.network, job.stage, job.data, answers, hooks, job.progress))
            ready.append(job)
    finished: dict[str, tuple[dict[str, Any], dict[str, bytes]]] = {}

    def done(place: int) -> None:  # while the others are still trained
        job = ready[place]
        with _Named(failed, job.stage.key):
            finished[job.stage.key] = _finished(store, job, "mlp batch")
        if len(finished) >= COMMIT_TOGETHER:
            store.commit_many(finished)
            finished.clear()

    if pupils:
        diverged = train_mlps(pupils, done=done)
        failed |= {ready[place].stage.key: failure for place, failure in diverged.items()}
    store.commit_many(finished)
    return failed


def _run_many(
    store: Store,
    jobs: Sequence[Job],
    should_stop: Callable[[], bool],
    report: Callable[[str, dict[str, Any]], None],
    pupils: Mapping[str, int],
) -> dict[str, StageFailed]:
    """All jobs side by side on one device."""
    failed: dict[str, StageFailed] = {}
    ready: list[Job] = []
    members: list[Member] = []
    for job in jobs:
        with _Named(failed, job.stage.key):
            teachers = _teachers(store, job, pupils)
            hooks = _hooks(store, job, should_stop, report, EVENTS_SECONDS)
            members.append(Member(job.network, job.stage, job.data, teachers, hooks, job.progress))
            ready.append(job)
    if not ready:
        return failed
    engine = Engine(_log)
    outcomes = train_many(members, bf16=ready[0].bf16, engine=engine)
    for job, outcome in zip(ready, outcomes, strict=True):
        with _Named(failed, job.stage.key):
            if isinstance(outcome, StageFailed):
                raise outcome
            store.commit(job.stage.key, *_finished(store, job, engine.name))
    return failed


def _run_alone(
    store: Store,
    jobs: list[Job],
    should_stop: Callable[[], bool],
    report: Callable[[str, dict[str, Any]], None],
    pupils: Mapping[str, int],
) -> None:
    """The first of the jobs, taken out: nothing else may hold its network when a second try needs the memory."""
    stage, device, engine = jobs[0].stage, jobs[0].device, Engine(_log)

    def attempt(spared: str) -> None:
        if spared:
            _log(f"{stage.network}, seed {stage.seed}: {SPARED[spared]}")
        own = replace(_job(store, stage.key, device), spared=spared) if spared else jobs.pop(0)
        _train_alone(store, own, engine, should_stop, report, pupils)
        store.commit(own.stage.key, *_finished(store, own, engine.name))

    or_in_less_memory(attempt, way_to_spare(stage, device))


def _train_alone(
    store: Store,
    job: Job,
    engine: Engine,
    should_stop: Callable[[], bool],
    report: Callable[[str, dict[str, Any]], None],
    pupils: Mapping[str, int],
) -> None:
    hooks = _hooks(store, job, should_stop, report, 0.0)
    teachers: Sequence[Teacher]
    if form_of(job.stage.loss) == "heads":
        teachers = ()  # the trainee has it inside
    elif looks_inside(job.stage):
        teachers = observed_teachers_of(store, job.stage, job.device, job.bf16)
    else:
        teachers = _teachers(store, job, pupils)
    train(
        job.network,
        job.stage,
        job.data,
        teachers,
        bf16=job.bf16,
        hooks=hooks,
        progress=job.progress,
        engine=engine,
        spare=job.spared,
    )


def _teachers(store: Store, job: Job, pupils: Mapping[str, int]) -> list[TeacherLogits]:
    """Of a plain network."""
    return teachers_of(store, job.stage, job.data, job.device, job.bf16, pupils=pupils, live=reference_mode())


def _hooks(
    store: Store,
    job: Job,
    should_stop: Callable[[], bool],
    report: Callable[[str, dict[str, Any]], None],
    every: float,
) -> Hooks:
    return Hooks(should_stop, _reporter(report, job), _keeper(store, job, every))


_log = partial(print, flush=True)  # a line of the run's log


def _reporter(report: Callable[[str, dict[str, Any]], None], job: Job) -> Callable[[dict[str, Any]], None]:
    def reported(row: dict[str, Any]) -> None:
        notes = [text for text in (SPARED.get(job.spared), job.progress.note) if text]
        report(job.stage.key, {**row, "note": "; ".join(notes)} if notes else row)

    return reported


def _keeper(store: Store, job: Job, every: float) -> Callable[[Progress], None]:
    """What happens after an epoch: its row is stored (at most once in `every` seconds), now and then a checkpoint."""
    key = job.stage.key
    checkpointed = written = time.monotonic()
    stored, judged = job.progress.epochs, False

    def epoch_done(progress: Progress) -> None:
        nonlocal checkpointed, written, stored, judged
        if not judged and progress.epochs >= judged_after(job.stage.recipe.epochs):
            judged = True  # later epochs change nothing about it
            _look_for_chance(job, progress)
        if job.stage.recipe.selection:
            selection.look(store, job.stage, job.network, job.data, progress)
        now = time.monotonic()
        if now - checkpointed > CHECKPOINT_SECONDS:
            store.save_checkpoint(key, checkpoint_bytes(job.network, progress))
            checkpointed = now
        if now - written >= every or progress.epochs == job.stage.recipe.last:
            store.append_events(key, progress.rows[stored:])
            stored, written = progress.epochs, now

    return epoch_done


def _look_for_chance(job: Job, progress: Progress) -> None:
    """Say it where a network is still at chance level."""
    progress.note = note_on(progress.rows, job.stage.recipe.epochs, job.data.validation.labels)
    if progress.note:
        _log(f"{job.stage.network}, seed {job.stage.seed}: {progress.note}")


def _finished(store: Store, job: Job, engine: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Evaluate on the test part: the result and the files of a trained stage."""
    stage, rows = job.stage, job.progress.rows
    said = taught_by(store, stage)
    if stage.recipe.selection:
        said[SELECTED] = selection.take_best(store, stage, job.network, job.progress)
    heard = {key: teacher_answers(store, key) for key in stage.teachers}
    metrics, predictions = evaluate(job.network, stage, job.data, heard)
    if stage.recipe.until:
        store.write_extra(stage.key, _GOES_ON, checkpoint_bytes(job.network, job.progress))
    result = {
        "epochs": len(rows),
        **metrics,
        **said,
        # from the rows again: who resumes from the last epoch's checkpoint has not come past a third of the epochs
        **({"note": note} if (note := note_on(rows, stage.recipe.epochs, job.data.validation.labels)) else {}),
        **({"memory": job.spared} if job.spared else {}),
        **numbers_of(rows),
        "seconds": job.progress.seconds,
        "peak_memory_mb": peak_memory_mb(job.device),
        "env": {**environment(job.device, job.bf16), "engine": engine},
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return result, {"weights.safetensors": weights_bytes(kept(job.network)), "predictions.npz": predictions}


def _resume(store: Store, key: str, network: nn.Module) -> Progress | None:
    """Continue from the last checkpoint; a damaged one is as good as none, because the stage is deterministic."""
    raw = store.load_checkpoint(key)
    if raw is None:
        return None
    progress = _fill_from(network, raw)
    if progress is None:
        store.drop_checkpoint(key)
    return progress


def _fill_from(network: nn.Module, raw: bytes) -> Progress | None:
    """Weights and progress of a checkpoint; None, and the network as it was, where it cannot be used."""
    untouched = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    try:
        return load_checkpoint(network, raw)
    except ValueError:
        network.load_state_dict(untouched)
        return None
