"""The command line: plan, run and look at experiments without the page. `python -m takd --help`

Exit codes: 0 done, 1 a check failed or the computer refused, 2 the request cannot be carried out, 4 the run was
cancelled, 5 it failed or was interrupted, 130 Ctrl-C. Packages that load pandas are imported where they are used.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from takd import __version__
from takd.answers import answers_rules
from takd.cli import bench, bundle, claims, library, queue, serve, tables, tidy, verify
from takd.cli.choices import read_choices, spec_options
from takd.cli.output import INTERRUPTED, Commands, Meter, Refused, Session, common, plain, table
from takd.data.catalogue import available_datasets, is_ready
from takd.data.meta import DataError
from takd.data.table import Dataset
from takd.networks.own import gone, gone_sentence
from takd.networks.table import NetworkError
from takd.plan import Plan, build_plan
from takd.runs import doctor as health
from takd.runs.errors import RunError, StoreError
from takd.runs.estimates import Estimate, estimate, known_rates, likely_device
from takd.runs.loop import titles
from takd.runs.policy import require_changes_allowed
from takd.runs.states import RunInfo, run_info
from takd.runs.store import Store, open_store
from takd.runs.stored_plan import stored_plan
from takd.runs.submit import cancel as cancel_run
from takd.runs.submit import delete as delete_run
from takd.runs.submit import resume as resume_run
from takd.runs.submit import submit
from takd.spec import ExperimentSpec, SpecError
from takd.spec import to_json as spec_json

if TYPE_CHECKING:
    from takd.analysis.verdicts import Verdict

CANCELLED, BROKEN = 4, 5
_LOOK = 0.25  # seconds between looks at a run
_ESTIMATE = 2.0  # seconds between estimates of the time left


class Main(Commands):
    """The group, with the exceptions of the packages below that carry sentences."""

    refusals = (SpecError, DataError, NetworkError, RunError, StoreError)


@click.group(cls=Main, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="takd")
def cli() -> None:
    """Does a bigger teacher still help a small student, and does an assistant help? Real trainings, real answers.

    \b
    1. python -m takd doctor                       is this machine ready?
    2. python -m takd run --preset digits-noise    ask a question: seconds to minutes on a laptop
    3. python -m takd serve                        explore it in the browser
    """


for _command in (tables.networks, tables.methods, tables.presets, tables.datasets, tables.data):
    cli.add_command(_command)
for _command in (serve.serve, bench.bench, verify.verify, queue.list_, queue.move):
    cli.add_command(_command)
for _command in (bundle.bundle, bundle.import_, tidy.tidy, library.library):
    cli.add_command(_command)
for _command in (claims.claims, claims.reproduce):
    cli.add_command(_command)


@cli.command()
@spec_options
@common
def plan(session: Session, **choices: Any) -> None:
    """Show what an experiment would train and how long it takes."""
    store, datasets = open_store(session.store), available_datasets()
    spec = read_choices(datasets, **choices)
    dataset = datasets[spec.dataset]
    made, left, device, processes = _cost(spec, dataset, store)
    download = _download(dataset, left)
    arms = [{"arm": arm.name, "method": arm.method, "path": list(arm.path)} for arm in made.arms]
    value = {
        "spec": spec_json(spec),
        "dataset": {"name": dataset.name, "ready": is_ready(dataset.name), "download": download},
        "arms": arms,
        "stages": left.total_stages,
        "trained": left.total_stages - left.new_stages,
        "new": left.new_stages,
        "seconds": round(left.seconds, 1),
        "calibrated": left.calibrated,
        "device": device,
        "processes": processes,
        "memory_mb": round(left.memory_mb),
        "answers": answers_rules(made.stages),
    }
    from takd.presentation.formats import count, duration, own_schedule

    sure = "from speeds measured here" if left.calibrated else "a rough guess: see python -m takd doctor --calibrate"
    lines = [f"{count(len(arms), 'arm')}, {count(spec.seeds, 'seed')}, {count(left.total_stages, 'training')}."]
    if own := own_schedule(spec.epochs, spec.images, spec.lr):
        lines.append(f"Every network: {own[2:]}, in place of the budget's.")
    lines.append(f"{value['trained']} are trained already, {left.new_stages} are new.")
    if left.new_stages:
        side = count(processes, "process", "processes")
        lines.append(f"Time: {duration(left.seconds)} on {device} with {side} ({sure}).")
        lines.append(f"Memory: about {left.memory_mb:,.0f} MB at most.")
        lines += answers_rules(made.stages)
    if download:
        lines.append(f"{dataset.label} is not prepared here: {download} will be downloaded first.")
    cells = [[arm.name, arm.how, " > ".join(arm.path)] for arm in made.arms]
    session.answer(value, table(["arm", "method", "path"], cells), *lines)


def _cost(spec: ExperimentSpec, dataset: Dataset, store: Store) -> tuple[Plan, Estimate, str, int]:
    """(plan, what is left of it, device, processes)."""
    made = build_plan(spec, dataset.with_fingerprint())
    device = likely_device(known_rates(store), made.stages)
    left = estimate(made, store, dataset.classes, None, device)
    return made, left, device, left.processes


def _download(dataset: Dataset, left: Estimate) -> str | None:
    """The size of the download that training needs first, or None."""
    return dataset.download if left.new_stages and not is_ready(dataset.name) else None


@cli.command()
@spec_options
@click.option("--detach", is_flag=True, help="Return the run's id at once instead of waiting.")
@click.option("--yes", is_flag=True, help="Do not ask before a run of an hour or more.")
@common
def run(session: Session, detach: bool, yes: bool, **choices: Any) -> None:
    """Train an experiment and report what it found.

    The training goes on when this command is stopped or its terminal closed.
    """
    store, datasets = open_store(session.store), available_datasets()
    spec = read_choices(datasets, **choices)
    require_changes_allowed()
    queue.agree_to_time(session, _cost(spec, datasets[spec.dataset], store)[1].seconds, yes)
    _prepare(session, spec, datasets[spec.dataset], store)
    run_id = submit(store, spec, asked_by="command line")
    again = f" --store {session.store}" if session.store else ""
    if detach:
        session.say(f"The run continues on its own. Look at it with: python -m takd show {run_id}{again}")
        session.answer({"run": run_id, "state": run_info(store, run_id).state}, run_id)
        return
    try:
        ended = _follow(store, run_id)
    except KeyboardInterrupt:
        session.say(f"Run {run_id} continues without you. Stop it with: python -m takd cancel {run_id}{again}")
        if session.as_json:
            session.answer({"run": run_id, "state": run_info(store, run_id).state, "interrupted": True})
        session.leave(INTERRUPTED)
    _report(session, store, ended)
    if ended.state != "done":
        session.say(f"{ended.look.word}. {ended.reason or ended.look.next_action}")
        session.say(f"Continue with: python -m takd resume {run_id}{again}")
        session.leave(CANCELLED if ended.state == "cancelled" else BROKEN)


def _prepare(session: Session, spec: ExperimentSpec, dataset: Dataset, store: Store) -> None:
    """Get the images first where the keys are known without them: such a run is planned at once, and its worker does
    not ask for the data set any more."""
    if dataset.fingerprint is not None and _download(dataset, _cost(spec, dataset, store)[1]):
        session.say(f"{dataset.label} is not prepared here: {dataset.download} are downloaded first.")
        tables.prepare_apart(dataset.name)


def _follow(store: Store, run_id: str) -> RunInfo:
    """Wait until a run has ended, showing how far it is."""
    from takd.presentation.words import run_sentence

    asked, eta = 0.0, None
    with Meter() as meter:
        while True:
            info = run_info(store, run_id)
            if not info.look.active:
                return info
            now = time.monotonic()
            if now - asked >= _ESTIMATE:
                asked, eta = now, _seconds_left(store, info)
            sentence = run_sentence(info.state, info.stages_done, info.stages_total, info.position, eta)
            stages = {key: stage for key in info.keys if (stage := store.stage(key)) is not None}
            training = titles([key for key, _ in info.current if key in stages], stages)
            share = info.stages_done / info.stages_total if info.stages_total else None
            text = info.reason if info.state == "starting" and info.reason else sentence
            meter.show(text, share, "; ".join(training))
            time.sleep(_LOOK)


def _seconds_left(store: Store, info: RunInfo) -> float | None:
    made = stored_plan(store, info)
    if made is None or not info.device:
        return None
    classes = next(iter(made.stages.values())).data.classes
    begun = info.state == "running"
    return estimate(made, store, classes, info.processes or None, info.device, begun=begun).seconds


def _report(session: Session, store: Store, info: RunInfo) -> None:
    """What a run found: a row per arm, then a sentence per comparison."""
    made = stored_plan(store, info)
    found = _findings(made, store) if made is not None else _NOTHING
    if missing := gone(info.spec):
        found = _NOTHING | {"headline": gone_sentence(missing)}
    value = {"run": info.id, "state": info.state, "spec": dict(info.spec), **found}
    value |= {"origin": info.origin, "stages_done": info.stages_done, "stages_total": info.stages_total}
    if info.reason:
        value |= {"reason": info.reason, "cause": info.cause}
    from takd.presentation.formats import MISSING, known, percent

    columns = ["path", "method", "n", "mean test accuracy", "half-width", "seconds"]
    cells = [
        [
            " > ".join(row["path"]),
            str(row["arm"]).rpartition(" ")[0],
            row["n"],
            percent(row["mean"]),
            f"± {percent(row['half'])}" if row["n"] > 1 else "",
            f"{row['seconds']:,.1f}" if known(row["seconds"]) else MISSING,
        ]
        for row in found["arms"]
    ]
    head = f"Run {info.id}: {info.look.word.lower()}, {info.stages_done} of {info.stages_total} trainings."
    if info.state != "done":
        head += f" {plain(info.reason or info.look.next_action)}"
    sentences = [f"- {row['sentence']}" for row in found["verdicts"] if row["n"]]
    if found["gap"]:
        sentences.append(f"- {found['gap']['sentence']}")
    session.answer(value, head, table(columns, cells, right=columns[2:]), *sentences, "", found["headline"])


_NOTHING: dict[str, Any] = {"arms": [], "verdicts": [], "gap": None, "headline": "Nothing has been planned yet."}


def _findings(made: Plan, store: Store) -> dict[str, Any]:
    """Arms, verdicts, gap and headline as JSON values; accuracies are fractions."""
    from takd.analysis.frames import arm_frame, chain_frame
    from takd.analysis.verdicts import gap, verdicts_for
    from takd.presentation import sub_words, words

    chains = chain_frame(made, store)
    paths = {arm.name: arm.path for arm in made.arms}
    names = ("arm", "method", "n", "mean", "half", "seconds", "trainings", "origin")
    rows = [{name: row[name] for name in names} for row in arm_frame(chains).to_dict("records")]
    arms = [{**row, "path": list(paths[row["arm"]]), "origin": row["origin"] if row["n"] else None} for row in rows]
    verdicts = verdicts_for(made, chains)
    judged = [
        {"kind": words.kind_of(v)} | _numbers(v) | {"p_holm": v.p_holm, "sentence": words.verdict_sentence(v)}
        for v in verdicts
    ]
    size = gap(chains) if sum(arm.method == "kd" for arm in made.arms) > 1 else None
    chosen = next((v for v in verdicts if v.arm == made.chosen.name), None)
    spec = made.spec
    method = "" if made.chosen.usual else words.method_label(made.chosen.how)
    facts = words.Facts(spec.teacher, spec.student, made.chosen.path[1:-1], spec.noise, method)
    headline = sub_words.headline_of(made, store, verdicts) or words.headline(size, chosen, facts)
    found: dict[str, Any] = {"arms": arms, "verdicts": judged, "gap": None, "headline": headline}
    if size is not None:
        more = {name: getattr(size, name) for name in ("peak", "largest", "compared", "teacher_monotone", "note")}
        found["gap"] = {"kind": words.gap_kind(size)} | _numbers(size.verdict) | more
        found["gap"] |= {"confidence": size.verdict.interval.confidence, "sentence": words.gap_sentence(size)}
    return found


def _numbers(verdict: Verdict) -> dict[str, Any]:
    return {name: getattr(verdict, name) for name in ("arm", "against", "n", "p", "seeds_needed")} | {
        name: getattr(verdict.interval, name) for name in ("mean", "low", "high")
    }


@cli.command()
@click.argument("run_id")
@common
def show(session: Session, run_id: str) -> None:
    """Report a run from its stored results, finished or not."""
    store = open_store(session.store)
    _report(session, store, run_info(store, run_id))


@cli.command()
@click.argument("run_id")
@common
def cancel(session: Session, run_id: str) -> None:
    """Ask a run to stop; finished trainings are kept."""
    store = open_store(session.store)
    cancel_run(store, run_id)
    _tell_state(session, store, run_id)


@cli.command()
@click.argument("run_id")
@common
def resume(session: Session, run_id: str) -> None:
    """Continue a run that was cancelled, failed or interrupted."""
    store = open_store(session.store)
    resume_run(store, run_id)
    _tell_state(session, store, run_id)


def _tell_state(session: Session, store: Store, run_id: str) -> None:
    info = run_info(store, run_id)
    text = f"Run {run_id}: {info.look.word.lower()}. {info.look.next_action}"
    session.answer({"run": run_id, "state": info.state}, text)


@cli.command()
@click.argument("run_id")
@common
def delete(session: Session, run_id: str) -> None:
    """Forget a run that has ended. Its trainings stay, because other runs may share them."""
    said = delete_run(open_store(session.store), run_id)
    session.answer({"run": run_id, "deleted": True}, said)


@cli.command()
@click.option("--calibrate", is_flag=True, help="First measure how fast this machine trains (seconds to a minute).")
@common
def doctor(session: Session, calibrate: bool) -> None:
    """Check whether this machine can train and store."""
    store = open_store(session.store)
    measured: list[dict[str, object]] = []
    with Meter() as meter:
        if calibrate:
            if (problem := store.writable()) is not None:
                raise Refused([problem])
            try:
                measured = health.calibrate(store, meter.show)
            except ValueError as error:
                raise Refused([str(error)]) from error
        checks = health.run_checks(store, lambda name: meter.show(f"Checking {name}"))
    failed = [check for check in checks if check.status == health.FAILED]
    cells = [[check.name, check.status, check.text] for check in checks]
    verdict = f"{len(failed)} of {len(checks)} checks failed." if failed else "This machine is ready."
    session.answer(
        {
            "ok": not failed,
            "checks": [{"name": c.name, "status": c.status, "text": c.text} for c in checks],
            "measured": measured,
            "rates": known_rates(store),
        },
        table(["check", "status", "what was found"], cells),
        verdict,
    )
    session.leave(1 if failed else 0)
