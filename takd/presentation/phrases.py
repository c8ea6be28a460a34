"""What one verdict says: its label, gain, interval and sentence. Fewer than three chains never claim anything."""

from __future__ import annotations

from takd.analysis.verdicts import LEAST_SEEDS, GapVerdict, Verdict
from takd.methods.table import METHODS
from takd.networks.table import NETWORKS
from takd.presentation.formats import TRUE_MINUS, count, digits_for, known, points
from takd.presentation.theme import ARM_LABELS

HELPS, SLIGHTLY_HELPS, NO_DIFFERENCE = "helps", "slightly helps", "no real difference"
SLIGHTLY_HURTS, HURTS, CANNOT_TELL = "slightly hurts", "hurts", "cannot tell yet"
GAP, NO_GAP, FLAT = "gap", "no gap", "flat"

# kind -> (Streamlit badge colour, icon). What is uncertain is neutral, not red.
BADGES = {
    HELPS: ("green", ":material/trending_up:"),
    SLIGHTLY_HELPS: ("green", ":material/trending_up:"),
    NO_DIFFERENCE: ("gray", ":material/trending_flat:"),
    SLIGHTLY_HURTS: ("orange", ":material/trending_down:"),
    HURTS: ("orange", ":material/trending_down:"),
    CANNOT_TELL: ("gray", ":material/help:"),
}


def kind_of(verdict: Verdict | None) -> str:
    """The verdict's kind, held to its n: without three chains and an interval nothing can be told."""
    return verdict.kind if verdict is not None and verdict.n >= LEAST_SEEDS and has_interval(verdict) else CANNOT_TELL


def gap_kind(gap: GapVerdict | None) -> str:
    """The gap's kind, held to its n like a verdict's."""
    if gap is None or gap.verdict.n < LEAST_SEEDS or not has_interval(gap.verdict):
        return CANNOT_TELL
    return gap.kind


def has_interval(verdict: Verdict) -> bool:
    return all(known(v) for v in (verdict.interval.mean, verdict.interval.low, verdict.interval.high))


def verdict_label(verdict: Verdict | None) -> str:
    """The verdict as a chip: `Helps`, `Cannot tell yet`."""
    return kind_of(verdict).capitalize()


def verdict_badge(verdict: Verdict | None) -> tuple[str, str]:
    """Streamlit badge colour and icon."""
    return BADGES[kind_of(verdict)]


def gain_text(verdict: Verdict | None) -> str:
    """The mean difference: `+0.9 points`."""
    if verdict is None or verdict.n == 0 or not known(verdict.interval.mean):
        return "no difference measured yet"
    return f"{points(verdict.interval.mean, _digits(verdict))} points"


def interval_text(verdict: Verdict | None, noun: str = "") -> str:
    """`95 % CI 0.3 to 1.5, n = 5 chains` (seeds where one network is trained); says so where there is no interval."""
    noun = noun or ("seed" if verdict is not None and _in_one_network(verdict.arm) else "chain")
    if verdict is None or verdict.n == 0:
        return "n = 0: nothing to compare yet"
    if verdict.n == 1:
        return "n = 1: one run, no interval"
    if not has_interval(verdict):
        return f"n = {count(verdict.n, noun)}, no interval"
    digits, interval = _digits(verdict), verdict.interval
    # An end that rounds to zero carries no sign.
    low, high = (points(v, digits).removeprefix("+") for v in (interval.low, interval.high))
    return f"{100 * interval.confidence:.3g} % CI {low} to {high}, n = {count(verdict.n, noun)}"


def p_text(verdict: Verdict) -> str:
    """`, exact sign-flip p = 0.06`, Holm's value where the verdict was judged in a family; empty below three. A p above
    0.05 that so few seeds cannot undercut, whatever they show, says so."""
    if verdict.n < LEAST_SEEDS or not known(verdict.p):
        return ""
    least = 2 / 2**verdict.n
    text = f", sign-flip p {_p(verdict.p)}"
    text += f", the smallest that n = {verdict.n} can give" if least > 0.05 and verdict.p <= least + 1e-9 else ""
    return f"{text}, {_p(verdict.p_holm)} after Holm" if known(verdict.p_holm) else text


def verdict_sentence(verdict: Verdict | None) -> str:
    """One full sentence for one comparison, with mean, interval, n and what would settle an open one."""
    if verdict is None or verdict.n == 0:
        return "Cannot tell yet: nothing to compare has finished."
    around = f"{interval_text(verdict)}{p_text(verdict)}"
    text = f"{verdict_label(verdict)}: {versus(verdict)}, {gain_text(verdict)} ({around})."
    return f"{text} {seeds_sentence(verdict)}" if kind_of(verdict) == CANNOT_TELL else text


def seeds_sentence(verdict: Verdict | None) -> str:
    """What it would take to know."""
    if verdict is None or verdict.n < LEAST_SEEDS or verdict.seeds_needed is None:
        return f"At least {LEAST_SEEDS} seeds are needed before anything can be told."
    seeds = count(verdict.seeds_needed, "seed")
    if verdict.interval.half <= verdict.margin:  # narrow already, but across an edge of the rule
        return f"The interval is narrow but crosses a limit of the rule; {seeds} or more may settle it."
    return f"About {seeds} would narrow the interval to ±{100 * verdict.margin:g} points."


def versus(verdict: Verdict) -> str:
    """`TA chain 10 → 4 → 2 against direct KD 10 → 2`."""
    return f"{arm_label(verdict.arm)} against {arm_label(verdict.against)}"


def arm_label(arm: str) -> str:
    """`takd 10>4>2` as `TA chain 10 → 4 → 2`; ways to train sub-models together go without their one network."""
    method, _, path = arm.rpartition(" ")
    if method == "scratch" and "@" in path and path in NETWORKS:
        row = NETWORKS[path]
        return f"{NETWORKS[path.partition('@')[0]].subs[row.part - 1]} alone"
    if method == "scratch":
        return "the student alone"
    if _in_one_network(arm):
        return method_label(method)
    if method.startswith("dml"):  # nobody comes first; a student beside its copy is named once
        names = path.split(">")[-1:] if "peers=copies" in method else path.split(">")
        return f"{method_label(method)} {' + '.join(names)}"
    return f"{method_label(method)} {path.replace('>', ' → ')}".strip()


def _in_one_network(arm: str) -> bool:
    """Whether an arm trains sub-models of one network together."""
    name = arm.rpartition(" ")[0].partition("[")[0]
    return name in METHODS and METHODS[name].in_one_network


def method_label(method: str) -> str:
    """`DGKD (gate drop-one)` for `dgkd[gate=drop-one]`, as arm names write a method with its options."""
    name, _, options = method.partition("[")
    label = ARM_LABELS.get(name) or (METHODS[name].label if name in METHODS else name.upper())
    chosen = options.removesuffix("]").replace("=", " ").replace(",", ", ")
    chosen = chosen.replace("protocol published", "as published, selected on test images")
    return f"{label} ({chosen})" if chosen else label


def short_label(method: str) -> str:
    """The method without its options, for figures; that it is as published is never left out."""
    published = ", published" if "protocol=published" in method else ""
    return f"{method_label(method.partition('[')[0])}{published}"


def via_label(arm: str) -> str:
    """The assistants of an arm or path: `takd 10>4>2` is `via 4`; `direct` where there are none."""
    inner = arm.rpartition(" ")[2].split(">")[1:-1]
    return f"via {', '.join(inner)}" if inner else "direct"


def row_label(arm: str) -> str:
    """`via 4`; the method is named where it is not the plain chain."""
    method, via = arm.rpartition(" ")[0], via_label(arm)
    if method == "takd":
        return via
    short = short_label(method)  # its options are in the headline: two such arms are never shown
    return short if via == "direct" else f"{short} {via}"


def teacher_of(arm: str | None, student: str) -> str | None:
    """The teacher's network name in an arm name, which leaves out the student's family: `kd 4>2` is `plain-4`."""
    if not arm:
        return None
    first = arm.rpartition(" ")[2].split(">")[0]
    if first in NETWORKS or student not in NETWORKS:
        return first
    return f"{NETWORKS[student].family}-{first}"


def size_name(first: str) -> str:
    """A network as arm names write it, in a sentence: `size 10`, or its name where the path is of several families."""
    return f"size {first}" if first.isdigit() else first


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _digits(verdict: Verdict) -> int:
    return digits_for((verdict.interval.mean, verdict.interval.low, verdict.interval.high))


def _p(value: float | None) -> str:
    if value is None or value < 0.001:
        return "< 0.001"
    return f"= {value:.2g}".translate(TRUE_MINUS)
