"""What README and docs/claims.md say was measured is what the stored runs say today."""

from __future__ import annotations

from pathlib import Path

import pytest

from takd.analysis.claims import Row, board
from takd.data.catalogue import available_datasets
from takd.presentation.claims import markdown
from takd.presentation.claims.answers import Reader
from takd.presentation.measured import measured
from takd.presentation.study import study
from takd.presets import PRESETS
from takd.runs.store import Store

ROOT = Path(__file__).resolve().parents[1]
SHOWN = ("cifar-gap", "cifar-student-4", "digits-noise", "digits-tuned", "digits-clean")
AGAIN = "the stored runs have changed: write it anew with python -m tests.test_readme"


def stored() -> tuple[Row, ...]:
    """The board of what travels with the program."""
    store = Store(ROOT / "no-store", [ROOT / "cached_runs"])
    return board(store, available_datasets(), Reader(store))


@pytest.fixture(scope="module")
def rows() -> tuple[Row, ...]:
    return stored()


def test_the_readme_leads_with_what_was_found(rows: tuple[Row, ...]) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text == filled(text, rows), AGAIN
    assert text.startswith("# TAKD Explorer\n\n<!-- found -->")


def filled(text: str, rows: tuple[Row, ...]) -> str:
    """The README with everything that follows from the stored runs written anew."""
    blocks = {
        "found": markdown.lead(rows), "in every setting": markdown.in_every_setting(rows),
        "claims": markdown.beside_published(rows), "measured": measured_here(),
    }  # fmt: skip
    for name, block in blocks.items():
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        after = rest.partition(f"<!-- end of {name} -->")
        assert begin and after[1], f"README has no place for {name}"
        text = f"{before}{begin}{block}\n{after[1]}{after[2]}"
    return text


def measured_here() -> str:
    """The ready questions with what is stored for them."""
    store, datasets = Store(ROOT / "no-store", [ROOT / "cached_runs"]), available_datasets()
    specs = [PRESETS[name].spec for name in SHOWN]
    return measured(study(spec, datasets[spec.dataset], store) for spec in specs)


def test_thirty_seeds_say_less_than_the_eight_of_the_ready_question(rows: tuple[Row, ...]) -> None:
    """What README and the preset warn of. README says by how much: it has to be written anew when that changes."""
    store, datasets = Store(ROOT / "no-store", [ROOT / "cached_runs"]), available_datasets()
    few = study(PRESETS["digits-noise"].spec, datasets["digits"], store)
    ratios = []
    for name, one in (("one-ta", "takd 256>16>8"), ("gap", "")):
        row = next(row for row in rows if row.claim.name == name)
        many = next(found for found in row.findings if found.setting.name == "digits-noise" and found.decides)
        direct = [v for v in few.verdicts if (v.arm, v.against) == (one, "kd 256>8")]
        gain = (direct[0] if one else few.gap_verdict.verdict).interval.mean
        ratios.append(gain / many.interval.mean)
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert min(ratios) > 1
    assert ("gain nearly twice as much as the 30 there" in text) == all(1.5 < ratio < 2.0 for ratio in ratios), ratios


def test_the_table_of_claims_is_that_of_the_stored_runs(rows: tuple[Row, ...]) -> None:
    text = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    assert text == markdown.page(rows), AGAIN


if __name__ == "__main__":
    found = stored()
    (ROOT / "docs" / "claims.md").write_text(markdown.page(found), encoding="utf-8")
    readme = ROOT / "README.md"
    readme.write_text(filled(readme.read_text(encoding="utf-8"), found), encoding="utf-8")
