"""The sections of the Assistants page: each answers one question with a sentence and a figure. They draw; takd.analysis
knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from takd.analysis.assistants import (
    Winner, by_length, direct_name, gain_map, longer_against_shorter, measured, winner,
)  # fmt: skip
from takd.analysis.lattice import lattice, training_arms
from takd.analysis.pool import Pool
from takd.analysis.rules import HOLDS, per_seed, rules
from takd.analysis.verdicts import compare
from takd.analysis.worth import longer_arms, worth_frame
from takd.data.table import Dataset
from takd.plan import Arm
from takd.presentation import basket, charts, lately, live, panels, ui, view, words
from takd.presentation.chain_map import alt_map, chain_map, claim_map
from takd.presentation.choices import carry
from takd.presentation.lattice_chart import alt_lattice, claim_lattice, lattice_chart
from takd.presentation.length_chart import alt_lengths, claim_lengths, length_chart
from takd.presentation.rules_chart import HOW, PUBLISHED, alt_rules, claim_rules, rules_chart
from takd.presentation.study import Study, assistant_rows
from takd.presentation.worth_chart import COSTS, alt_worth, claim_worth, worth_chart
from takd.runs.policy import read_only
from takd.runs.store import Store
from takd.spec import ExperimentSpec

PLAYGROUND = Path(__file__).resolve().parents[2] / "pages" / "playground.py"
