"""The rows of the table that read logits, mixed teachers and labels alone, as Terms."""

from kdjax.losses import TERMS, Term
from kdjax.nets import calls


def _term(row):
    """With its default options, and layers of any name."""
    if isinstance(row, Term):
        return row
    options = {option.name for option in calls.parameters(row)}
    return row(**dict.fromkeys(options & {"student", "teacher"}, "a_layer"))


ROWS = {name: _term(row) for name, row in TERMS.items()}
OF_LOGITS = {
    name: term
    for name, term in ROWS.items()
    if term.needs <= {"labels", "targets"} and not (term.directions or term.student or term.teacher)
}
