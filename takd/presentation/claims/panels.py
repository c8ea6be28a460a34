"""The panels of the Claims page: the finding in a sentence, the board, the claim that is looked at, the map, the table.
They draw; data.py knows."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from takd.analysis.best_of import CLAIM, best_of
from takd.analysis.claims import Finding, Row
from takd.claims import amendments
from takd.claims.claim import FAMILIES, Claim
from takd.claims.table import CLAIMS
from takd.presentation import figure_menu, ui, view
from takd.presentation.claims import data, map_chart, training, words
from takd.presentation.claims.answers import Reader
from takd.presentation.claims.best_words import best_of_sentence
from takd.presentation.claims.board_chart import board_chart
from takd.presentation.claims.claim_chart import alt_claim, by_unit, claim_chart, of_claim
from takd.presentation.claims.marks import MARKS, mark_of
from takd.presentation.formats import count, listing
from takd.presentation.phrases import capital
from takd.runs.store import Store

PATIENCE = 1.5  # seconds a page waits for the first board before it shows the claims alone
_LOOK = 1.0  # seconds between looks while the first board is worked out


def head(known: data.Known | None) -> None:
    """What was found, and what a status means."""
    if known is None:
        st.subheader(f"{count(len(CLAIMS), 'claim')} of the field, each with the rule that decides it", anchor=False)
    else:
        total, *asked = (ui.plain(ui.unbroken(sentence)) for sentence in words.board_sentences(known.rows))
        if asked:
            with st.container(horizontal=True, vertical_alignment="bottom"):
                for look, number in words.sums(known.rows).items():
                    st.metric(MARKS[look].word, number, width="content")
                st.caption(ui.plain(words.counted(known.rows)), width="stretch")
            st.markdown("\n".join(f"- {sentence}" for sentence in asked))
        else:
            st.subheader(total, anchor=False)
    st.caption(words.METHOD)


def waiting(store: Store) -> None:
    """Look again until the first board is there, then draw the page with it."""

    @st.fragment(run_every=_LOOK)
    def look() -> None:
        datasets = ui.datasets()
        if data.known(store, datasets) is not None:
            st.rerun()
        if data.failed(store, datasets):
            st.error("The statuses cannot be worked out; the server's log says why.", icon=":material/error:")
        else:
            st.info("The stored runs are being read for the statuses: a few seconds.", icon=":material/hourglass_top:")

    look()


def texts() -> None:
    """Every claim by its family, while nothing is known of them."""
    for family, name in FAMILIES.items():
        own = [claim for claim in CLAIMS.values() if claim.family == family]
        # no Markdown list: that would count on from its first number
        lines = "  \n".join(f"{claim.number} · {ui.plain(claim.title)}" for claim in own)
        st.markdown(f"**{name}**\n\n{lines}")


def board(known: data.Known) -> None:
    """The board; a click on a row looks at its claim."""
    picked = str(view.get("claim"))
    pick = None if view.locked("claim") else ui.Pick("claim", _titles(), label="Claim", nothing="pick one", then=_look)
    ui.figure(
        "board",
        lambda compact, dark: board_chart(known.cells, dark, compact, picked),
        lambda: words.alt_board(known.rows),
        known.frame,
        depends=(known.cells, picked),
        title="claims of the field by setting",
        caption=ui.plain(_board_caption(known)),
        pick=pick,
    )


def _look(claim: str) -> None:
    view.put("claim", claim)


def _titles() -> dict[str, str]:
    return view.VIEWS["claim"].options  # type: ignore[return-value]


def _board_caption(known: data.Known) -> str:
    done = [found for _, found in words.deciding(known.rows) if found.interval.n]
    if not done:
        return "No setting has runs yet."
    counts = sorted({found.interval.n for found in done})
    n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    return (
        f"{n} chains a cell; Holm within each topic and setting; {_origins(done)}. Blank: not tested in that setting. "
        "Variants stand beside each claim."
    )


def _origins(findings: list[Finding]) -> str:
    found = sorted({word for finding in findings for word in (finding.origin or "").split("+") if word})
    return f"numbers {listing(found)}" if found else "no numbers yet"


def about(claim: Claim) -> None:
    """A claim's source, experiment and rule."""
    st.markdown(
        f"**Source** {ui.plain(claim.source)}  \n"
        f"**Published by the source** {ui.plain(claim.published)}  \n"
        f"**Experiment** {ui.plain(claim.experiment)}  \n"
        f"**Rule** {ui.plain(claim.rule)}  \n"
        f"**What counts** {ui.plain(words.counts_words(claim))}"
    )
    if rows := amendments.of(claim.name):
        with st.expander(f"Changed or added since ({len(rows)})"):
            st.markdown("\n".join(f"- **{row.word}** {ui.plain(row.text)}" for row in rows))
    with st.expander("What each setting trains with"):
        st.markdown("\n".join(f"- {ui.plain(line)}" for line in words.settings_words(claim)))


def one(row: Row | None, store: Store) -> None:
    """The claim that is looked at."""
    claim = CLAIMS[str(view.get("claim"))]
    view.select("claim", label_visibility="collapsed")
    st.subheader(ui.plain(f"{claim.number} · {claim.title}"), anchor=False)
    if row is None:
        about(claim)
        return
    _status(row)
    about(claim)
    for number, some in enumerate(by_unit(row)):
        if any(finding.interval.n for finding in some.findings):
            _figure(some, f"claim-{number}" if number else "claim")
    with st.container(gap="xsmall"):
        _sentences((row.findings[0], *row.elsewhere))
        if row.variants:
            st.caption("Variants, shown beside and never deciding:")
            _sentences(row.variants)
    if claim.name == CLAIM:
        _best_of(store)
    training.panel(row, store, ui.datasets())


def _best_of(store: Store) -> None:
    """What choosing the best seed is worth."""

    def sentence(_: data.Known) -> str:
        return best_of_sentence(best_of(store, ui.datasets(), Reader(store)))

    st.markdown(ui.plain(ui.unbroken(str(data.kept(store, ui.datasets(), "best of", sentence)))))


def _status(row: Row) -> None:
    first = row.leading
    mark = mark_of(first)
    kinds = {finding.trial.registered for finding in row.findings if finding.decides}
    rule = "Pre-registered: the rule was written down before results of these seeds were seen."
    if False in kinds:
        rule = "Exploratory where results had been seen before the rule was written, or it was changed since"
        rule += "; pre-registered in the others." if True in kinds else "."
    if spread := words.spread_sentence(row):
        st.markdown(ui.plain(spread))
    st.markdown(
        f"{mark.icon} **{ui.plain(capital(words.status_word(first)))}** in {ui.plain(first.setting.short)}. {rule}"
    )


def _sentences(findings: Sequence[Finding]) -> None:
    """A line per finding, and one for all that were not run."""
    for finding in (finding for finding in findings if finding.interval.n):
        st.markdown(f"{mark_of(finding).icon} {ui.plain(ui.unbroken(words.finding_sentence(finding)))}")
    if left := words.not_run(findings):
        st.markdown(f"{MARKS['not run'].icon} {ui.plain(left)}")


def _figure(row: Row, key: str) -> None:
    found, dots = of_claim(row)
    tests = list(row.findings)
    levels = sorted({words.confidence_words(f.interval.confidence) for f in tests if f.interval.n})
    done = [f for f in tests if f.interval.n]
    ui.figure(
        key,
        lambda compact, dark: claim_chart(found, dots, dark, compact),
        lambda: alt_claim(row),
        found,
        depends=(dots,),
        title=row.claim.title,
        caption=ui.plain(
            f"Dots: seeds, each a chain of its own; mark and line: mean and interval ({listing(levels)}, by Holm). "
            f"Grey: differences that count as none. {capital(_origins(done))}."
        ),
    )


def regimes(known: data.Known) -> None:
    """Where two effects appear and where they do not."""
    st.subheader("Where do the gap and the assistant's gain appear?", anchor=False)
    if known.regimes is None:
        st.caption("The map needs the digits, which have no fingerprint on this machine.")
        return
    frame = known.regimes
    cells = map_chart.map_cells(frame)
    st.markdown(ui.plain(ui.unbroken(map_chart.map_sentence(frame))))
    for effect, title in map_chart.TITLES.items():
        st.markdown(f"**{title}**")
        _map(cells, effect)


def _map(cells: pd.DataFrame, effect: str) -> None:
    ui.figure(
        f"regimes-{effect}",
        lambda _, dark: map_chart.regimes_chart(cells, effect, dark),
        lambda: map_chart.alt_regimes(cells, effect),
        cells[cells["effect"] == effect],
        title=f"{map_chart.TITLES[effect].lower()} by epochs, images and wrong labels",
        caption=ui.plain(map_chart.map_caption(cells, effect)),
    )


def table(known: data.Known) -> None:
    """All findings, in a box that is sent when it is opened."""
    box = st.expander("All findings", icon=":material/table_chart:", key="numbers-claims", on_change="rerun")
    if box.open:
        with box:
            st.dataframe(known.frame.drop(columns=["claim", "family"]), hide_index=True)
            figure_menu.table_button("claims", known.frame, icon=":material/download:")


def changed() -> None:
    """What was changed after the rules were written down, whichever claim it is about."""
    with st.expander("Changed since the rules were written down", icon=":material/history:"):
        st.markdown(words.CHANGED)
        st.markdown("\n".join(f"1. {ui.plain(row.text)}" for row in amendments.AMENDMENTS))
