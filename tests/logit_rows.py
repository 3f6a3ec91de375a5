"""The rows of the table that read logits alone, as Terms with their default options."""

from kdjax.losses import TERMS, Term
from kdjax.nets import calls


def _reads_layers(row):
    return not isinstance(row, Term) and "student" in {o.name for o in calls.parameters(row)}


OF_LOGITS = {
    name: row if isinstance(row, Term) else row()
    for name, row in TERMS.items()
    if not _reads_layers(row)
}
