"""What a check of stored numbers found, in words: for the Runs page and the command line."""

from __future__ import annotations

from collections import Counter

from takd.presentation.formats import count
from takd.runs.stamps import EXACTLY, SAID, Stamp

NOT_VERIFIED = "Not verified"


def stamp_label(stamp: Stamp | None) -> str:
    """In a cell: `Verified 2026-11-21`, `Partly verified 2026-11-21`, `2 differences` or `Not verified`."""
    if stamp is None:
        return NOT_VERIFIED
    return _outcome(stamp) if stamp.differences else f"{_outcome(stamp)} {stamp.when[:10]}"


def _outcome(stamp: Stamp) -> str:
    if stamp.differences:
        return count(len(stamp.differences), "difference")
    return "Partly verified" if _unasked(stamp) else "Verified"


def stamp_sentence(stamp: Stamp) -> str:
    """What was done: `Verified 2026-11-21: 12 stages, every number recomputed, weights re-evaluated for 8`."""
    stages, left = len(stamp.looked_at), _unasked(stamp)
    numbers = "every number recomputed"
    if left:
        numbers = f"the numbers of {left if left < stages else 'each'} only in part"
    weights = sum(stage.weights for stage in stamp.stages)
    done = f"{stamp.when[:10]}: {count(stages, 'stage')}, {numbers}, weights re-evaluated for {weights or 'none'}"
    again = [stage for stage in stamp.stages if SAID in stage.checked]
    if again:
        exactly = sum(EXACTLY in stage.checked for stage in again)
        done += f", {len(again)} trained again ({exactly or 'none'} of them {EXACTLY})"
    return f"{_outcome(stamp)} found {done}" if stamp.differences else f"{_outcome(stamp)} {done}"


def _unasked(stamp: Stamp) -> int:
    """Stages with numbers of the result that could not be recomputed. Weights are counted apart: they are a second
    opinion on the same numbers."""
    return sum(any(_is_number(what) for what in stage.skipped) for stage in stamp.looked_at)


def _is_number(what: str) -> bool:
    return not what.endswith((".npz", ".safetensors", ".json", " from the weights"))


def skipped_sentences(stamp: Stamp) -> list[str]:
    """What could not be checked, and why: a sentence per reason."""
    names: dict[str, dict[str, None]] = {}
    stages: Counter[str] = Counter()
    for stage in stamp.stages:
        for why in set(stage.skipped.values()):
            stages[why] += 1
        for what, why in stage.skipped.items():
            names.setdefault(why, {})[what.partition(" with ")[0].rpartition(": ")[2]] = None
    return [
        f"Not checked for {count(number, 'stage')}: {', '.join(names[why])} ({why.rstrip('.')})."
        for why, number in stages.most_common()
    ]


def ties_sentence(stamp: Stamp) -> str:
    """How many answers are undecided as stored; empty where none is."""
    ties = sum(stage.ties for stage in stamp.stages)
    if not ties:
        return ""
    return (
        f"{count(ties, 'test answer')} could be read either way: answers are stored with about three digits, and there "
        "the two best classes are equal. Accuracies agree up to these."
    )
