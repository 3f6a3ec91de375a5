"""Finished stages to learn from; one step makes nets as good as any for what is measured."""

from benchmarks import populations
from benchmarks.session import Session
from benchmarks.work import Work
from kdjax.data import Dataset


def finished(session: Session, work: Work, data: Dataset, members: int) -> str:
    """The directory of a stage of so many nets, trained once a session."""
    directory = session.directory / f"{work.name} M={members} C={data.classes}"
    stage = populations.stage(work, members, steps=1, chunk=1)
    if not directory.exists():
        populations.finish(stage, data, directory)
    return str(directory / populations.STAGE)
