"""Changes of a whole experiment that several configs share."""

from ml_collections import ConfigDict


def smoke(config: ConfigDict, examples: float = 1.0) -> None:
    """Two members of everything for a few steps, on so many examples."""
    for each in config.stages.values():
        each.update(steps=4, chunk=2, batch=20)
        each.optimizer.warmup_steps = 0
        seeds = each.members.seed
        each.members.seed = 2 if isinstance(seeds, int) else seeds[:2]
        if each.members.ensemble_size:
            each.members.ensemble_size = (1, 2)
        if examples != 1:
            each.subset.size = examples


def few_labels(config: ConfigDict, labels: float) -> None:
    """Teachers and labelled nets see so many examples; nets with teachers see all the others, too,
    without labels."""
    for each in config.stages.values():
        terms = each.objective.keys()
        if "cross_entropy" in terms:
            each.subset["labelled" if len(terms) > 1 else "size"] = labels


def tune(
    config: ConfigDict,
    rates: tuple[float, ...],
    decays: tuple[float, ...],
    temperatures: tuple[float, ...],
    validation: int = 0,
    seeds: int = 2,
) -> None:
    """Makes every stage but the first a grid, evaluated on validation data."""
    config.evaluate = "validation"
    config.dataset.validation = validation
    for each in list(config.stages.values())[1:]:
        each.members.update(seed=seeds, learning_rate=rates, weight_decay=decays)
        if "kl_divergence" in each.objective:
            each.members.temperature = temperatures
