"""Which of a teacher's answers (logits on training images) are kept for its students, and where. Imports no torch.

Views are drawn from (seed, epoch, sample) alone, so all students of one seed see the same ones, and what a teacher
answers can be looked up instead of asked again. Its key holds the precision it answers in.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping

from takd.methods.table import form_of
from takd.stage import StageSpec

MOST_BYTES = 256 * 2**20  # of one teacher's answers on random views
_BYTES = 2  # float16


def answers_file(pupil: StageSpec, teacher: StageSpec | None, view: str = "") -> str:
    """Name of a teacher's stored answers on its pupil's training images, as they are or in one `view` of each. Label
    noise is not in it, as it does not change images. A pupil that is trained in another precision than its teacher has
    its images, and so the answers, rounded in another way: those have a name of their own."""
    data = pupil.data
    images = f"{data.train_images}+{data.skip}" if data.skip else f"{data.train_images}"
    text = f"{data.fingerprint}/{images}/{data.split_seed}" + (f"/{view}" if view else "")
    if teacher is not None and teacher.recipe.precision != pupil.recipe.precision:
        text += f"/for {pupil.recipe.precision}"
    return f"logits-{hashlib.sha256(text.encode()).hexdigest()[:12]}.npy"


def answers_suffice(pupil: StageSpec) -> bool:
    """Whether a pupil can learn from its teacher's answers to the images as they are: the teacher sees no other view,
    and the pupil looks at nothing but answers."""
    return (pupil.recipe.augmentation == "none" or pupil.view == "own") and not looks_inside(pupil)


def looks_inside(pupil: StageSpec) -> bool:
    """Whether a pupil needs its teacher itself, for what its hidden layers say about every batch."""
    return form_of(pupil.loss) in ("features", "heads")


def passes(pupil: StageSpec) -> int:
    """How often a teacher answers all training images for this pupil, if nobody has asked it before."""
    recipe = pupil.recipe
    if looks_inside(pupil):
        return recipe.last
    if pupil.view == "own":
        return 1
    return {"none": 1, "flip": 2}.get(recipe.augmentation, recipe.last)


def keeps_random(pupil: StageSpec, pupils: int) -> bool:
    """Whether answers on random views are stored: somebody else wants them too, and they are not too large."""
    if looks_inside(pupil) or answers_suffice(pupil):
        return False
    size = passes(pupil) * pupil.data.train_images * pupil.data.classes * _BYTES
    return pupils > 1 and size <= MOST_BYTES


def answers_rules(stages: Mapping[str, StageSpec]) -> tuple[str, ...]:
    """The rules that hold among the stages of a plan, one sentence each; none where nobody teaches."""
    pupils = Counter(teacher for stage in stages.values() for teacher in stage.teachers)
    found = [
        answers_rule(stage, max(pupils[key] for key in stage.teachers)) for stage in stages.values() if stage.teachers
    ]
    return tuple(dict.fromkeys(found))


def answers_rule(pupil: StageSpec, pupils: int) -> str:
    """The sentence a plan shows: how often this pupil's teacher answers, and for whom. `pupils` learn from it in this
    run."""
    kind = pupil.recipe.augmentation
    if looks_inside(pupil):
        return "Where hidden layers are looked at, the teacher is run for every batch and nothing is kept."
    if pupil.view == "own":
        return "Teachers see images as they are, so each answers an image once, whatever view its student has of it."
    if kind == "none":
        return "An image always looks the same, so each teacher answers it once and its answers serve all its students."
    if kind == "flip":
        return "An image has two looks, so each teacher answers it twice and its answers serve all its students."
    if keeps_random(pupil, pupils):
        return (
            "Views change with every epoch and are the same for all students of a seed, so each teacher answers once "
            "per epoch and its answers serve all its students."
        )
    why = "nobody else needs them" if pupils <= 1 else "they would take too much of the disk"
    return f"Views change with every epoch, so teachers answer anew in each one; answers are not kept, as {why}."
