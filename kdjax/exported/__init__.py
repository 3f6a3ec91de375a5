"""A net that leaves: a folder that holds it in forms which run without kdjax."""

from kdjax.exported.read import Exported, open_export
from kdjax.exported.writing import Student, write

__all__ = ["Exported", "Student", "open_export", "write"]
