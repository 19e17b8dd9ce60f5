"""How the terms of the sum are computed for one micro-batch, from what student and teachers say.

Reading order: ``view.py`` (what there is to look at), ``hard.py`` and ``soft.py`` (terms on
labels and logits; ``by_label.py`` where labels do not exclude each other), ``features.py``
(terms on hidden states and attention maps), ``groups.py`` (terms on scores of a query's candidates; ``block.py``
of many queries'),
``adversarial.py`` and ``attack.py`` (the term on examples made against the student), ``weighting.py`` (what each
teacher counts), ``words.py`` and ``spans.py`` (words and units of both sides), ``plan.py`` (all of it, resolved).
"""

from raydistill.terms.adversarial import adversarial_sum, count_adversarial
from raydistill.terms.by_label import (
    by_position,
    gate_values,
    known_columns,
    label_values,
    weigh_labels,
    yes_no,
)
from raydistill.terms.features import (
    FeatureMatch,
    LayerPair,
    asked_of,
    attention_sum,
    count_features,
    learned_key,
    states_sum,
)
from raydistill.terms.groups import GroupMatch, count_groups, group_sum
from raydistill.terms.hard import HardMatch, count_labels, hard_sum, labelled_rows
from raydistill.terms.plan import AdversarialMatch, Moment, ObjectivePlan, Term
from raydistill.terms.soft import SoftMatch, soft_values, temperature_of
from raydistill.terms.spans import CommonClasses, common_classes
from raydistill.terms.view import Embedded, Nearby, StudentOutputs, View
from raydistill.terms.weighting import (
    Seen,
    TeacherWeighting,
    Weighed,
    abstaining,
    answering,
)
from raydistill.terms.words import require_like_words

__all__ = [
    "AdversarialMatch",
    "CommonClasses",
    "Embedded",
    "FeatureMatch",
    "GroupMatch",
    "HardMatch",
    "LayerPair",
    "Moment",
    "Nearby",
    "ObjectivePlan",
    "Seen",
    "SoftMatch",
    "StudentOutputs",
    "TeacherWeighting",
    "Term",
    "View",
    "Weighed",
    "abstaining",
    "adversarial_sum",
    "answering",
    "asked_of",
    "attention_sum",
    "by_position",
    "common_classes",
    "count_adversarial",
    "count_features",
    "count_groups",
    "count_labels",
    "gate_values",
    "group_sum",
    "hard_sum",
    "known_columns",
    "label_values",
    "labelled_rows",
    "learned_key",
    "require_like_words",
    "soft_values",
    "states_sum",
    "temperature_of",
    "weigh_labels",
    "yes_no",
]
