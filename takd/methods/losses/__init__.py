"""Losses as pure functions that return their terms by name, so that every term can be drawn.

Conventions: logits are (B, classes), labels (B,) int64; KL is summed over classes and averaged over the batch
(`batchmean`) and multiplied by T**2 (Hinton et al. 2015, section 2), so that `lam` keeps its meaning whatever the
temperature and the number of classes. The teacher's side never carries a gradient.

basic: CE, KD. several: dense guidance, heads. together: sub-models, peers. remedies: DKD, DIST, ... features: hints,
attention. heads: linear heads and their loss. gates: stochastic teaching. step: what a training step calls.
"""

from takd.methods.losses.basic import ce_loss, entropy, kd_loss, kl_rows, kl_term
from takd.methods.losses.step import Answers, StepState, make_loss, state_at

__all__ = ["Answers", "StepState", "ce_loss", "entropy", "kd_loss", "kl_rows", "kl_term", "make_loss", "state_at"]
