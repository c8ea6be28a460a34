"""Cancel with the real engine and a helper: nothing is trained any more after the batch in hand."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from takd.data.catalogue import available_datasets
from takd.runs.states import run_info
from takd.runs.store import Store
from takd.runs.submit import cancel, resume, submit
from tests.runs.conftest import store, wait_end, wait_for, workers
from tests.training.noted_steps import begun
from tests.training.test_every_method import spec_for

__all__ = ["store"]
BATCH_MS = 150
LOOK = 0.05  # seconds between two looks at the wish: batches shorter than that may be a few


@pytest.mark.faults
@pytest.mark.parametrize("batch_ms", [BATCH_MS, 0])
def test_cancel_takes_effect_within_one_batch(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_ms: int
) -> None:
    noted = tmp_path / "steps"
    noted.mkdir()
    monkeypatch.setenv("TAKD_TRAINER", "tests.training.noted_steps:run_stages")
    monkeypatch.setenv("TAKD_ENGINE", "reference")  # the plain loop, which has batches to count
    monkeypatch.setenv("TAKD_WARM_MINUTES", "0")
    monkeypatch.setenv("NOTED_STEPS", str(noted))
    spec = replace(spec_for("kd"), teacher="cnn8-8", student="cnn8-4", seeds=3, budget="taste")
    run_id = submit(store, spec, datasets=available_datasets())
    wait_for(lambda: run_info(store, run_id).stages_done >= 1, 120.0)
    if batch_ms:  # a slower run, now that one stage is finished: what is done stays done
        cancel(store, run_id)
        wait_end(store, run_id)
        kept = finished(store, run_id)
        for path in noted.iterdir():
            path.unlink()
        monkeypatch.setenv("NOTED_STEP_MS", str(batch_ms))
        resume(store, run_id)
    else:
        kept = finished(store, run_id)
    wait_for(lambda: len(begun(noted)) == 2 and len(run_info(store, run_id).current) == 2, 120.0)
    asked = time.monotonic()
    cancel(store, run_id)
    assert wait_end(store, run_id).state == "cancelled"
    wait_for(lambda: not workers(store), 5.0)
    ended = time.monotonic()
    steps = begun(noted)
    time.sleep(0.3)
    assert begun(noted) == steps, "something still trains"
    for mine in steps.values():
        late = [at for at in mine if at > asked]
        assert len(late) <= 1 or (not batch_ms and max(late) - asked < 10 * LOOK), [at - asked for at in late]
    assert ended - asked < 5.0
    now = finished(store, run_id)
    assert kept and kept.items() <= now.items()


def finished(store: Store, run_id: str) -> dict[str, bytes]:
    """Weights of the finished stages of a run."""
    fresh = Store(store.root)
    return {k: fresh.read_file(k, "weights.safetensors") for k in run_info(fresh, run_id).keys if fresh.is_done(k)}
