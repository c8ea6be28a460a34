"""Import and exercise once what the first page needs, so that the first visitor does not wait for it."""

from __future__ import annotations

import logging


def warm_up() -> None:
    """Never raises: a server that cannot warm up still serves, and the page says what is wrong."""
    try:
        from takd.data.catalogue import available_datasets
        from takd.presentation.charts import gap_chart
        from takd.presentation.study import study
        from takd.runs.doctor import calibrate_in_background
        from takd.runs.policy import problems
        from takd.runs.states import list_runs
        from takd.runs.store import open_store
        from takd.runs.warm import warm
        from takd.spec import start_for

        for sentence in problems():
            logging.getLogger("takd").warning(sentence)
        store = open_store()
        calibrate_in_background(store)
        warm(store)  # starts a process and does not wait for it
        list_runs(store)
        shown = study(start_for("cifar10"), available_datasets()["cifar10"], store)
        gap_chart(shown.gap, shown.gap_seeds).to_dict()
    except Exception:
        logging.getLogger("takd").exception("warm-up failed")
