"""Public data sets as trajectories: none of their calls was executed, so `verified` is false.

Each converter reads one format and yields requests with their calls and tools; `write` checks them
against the tools' schemas, drops what does not fit and counts it.
"""

from afx_train.data.imports.formats import FORMATS, import_folder

__all__ = ["FORMATS", "import_folder"]
