"""What an import came to, in words: for the Runs page and the command line."""

from __future__ import annotations

from takd.presentation.formats import count
from takd.runs.bundle_import import Imported


def imported_sentences(found: Imported) -> list[str]:
    """What came, what stands where, what is not known about it."""
    if found.origin in ("live", "cached"):
        where = "was trained here" if found.origin == "live" else "comes with the program"
        return [f"Run {found.run_id} is here already: it {where}. Nothing was changed."]
    weights = "with weights" if found.weights else "without weights"
    came = f"{count(found.stages, 'training')} {weights}"
    said = [
        f"Run {found.run_id} was imported before and is unchanged ({came})."
        if found.known
        else f"Run {found.run_id} is imported: {came}."
    ]
    if found.own:
        said.append(
            f"{_some(found.own, found.stages)} trained here too, or came with the program: those results are shown."
        )
    if found.kept:
        said.append(f"{_some(found.kept, found.stages)} imported before with other results; those stay and are shown.")
    said.append(
        "Its numbers were not recomputed here: the check of stored numbers (Verify) does that. They are marked as "
        "imported and never used for training."
    )
    return said


def _some(part: int, whole: int) -> str:
    if part == whole:
        return "All of its trainings were"
    return f"{part} of its trainings {'was' if part == 1 else 'were'}"
