"""The plan a run was started with, read back from its folder: what `submit.write_plan` wrote."""

from __future__ import annotations

from dataclasses import replace

from takd.data.catalogue import available_datasets
from takd.data.table import Dataset
from takd.networks.table import NETWORKS, family_of
from takd.plan import Arm, Chain, Plan, chosen_arm
from takd.runs.states import RunInfo, plan_keys, read_run_file, run_folder
from takd.runs.store import Store
from takd.spec import read_spec


def stored_plan(store: Store, info: RunInfo) -> Plan | None:
    """The plan of a run, which so needs neither its data set nor today's recipes; None where there is none (yet), or
    where another version wrote it."""
    folder = run_folder(store, info.id)
    rows = read_run_file(store, folder, "plan.json")
    found = {key: store.stage(key) for key in plan_keys(store, folder)}
    stages = {key: stage for key, stage in found.items() if stage is not None and stage.network in NETWORKS}
    if not stages or len(stages) < len(found):
        return None
    try:
        arms = tuple(
            Arm(str(row["method"]), tuple(row["path"]), tuple(sorted(row.get("options", {}).items())))
            for row in rows["arms"]
        )
        saved = ((r["arm"], int(r["seed"]), tuple(r["keys"]), tuple(r.get("beside", ()))) for r in rows["chains"])
        chains = tuple(Chain(arms[arm], seed, keys, beside) for arm, seed, keys, beside in saved)
        networks = {name for arm in arms for name in arm.path}
        fit = all({*c.keys, *c.beside} <= set(stages) and 0 < len(c.keys) <= len(c.arm.path) for c in chains)
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    if not fit or not all(name in NETWORKS for name in networks):
        return None
    data = next(iter(stages.values())).data
    families = tuple({family_of(name) for name in networks})
    row = Dataset(data.name, data.name, families, data.classes, data.train_images, 0, 0, "", "", data.fingerprint)
    row = replace(available_datasets().get(data.name, row), families=families, classes=data.classes)
    if not isinstance(info.spec.get("dataset"), str):
        return None
    spec = read_spec(info.spec, {data.name: row})[0]
    return Plan(spec, chosen_arm(spec), arms, chains, stages)
