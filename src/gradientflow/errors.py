"""The tree of exceptions.

GradientflowError
├── UsageError          the command or call was wrong; the message names the mend      (exit code 2)
│   ├── ScriptError     the script to run is missing, unreadable or does not compile
│   ├── OutputError     the output folder or file cannot be written
│   └── FieldError      a field, a loss or a starting point is not what it must be
│       └── RandomFieldError    two evaluations at one point differ: there is no flow
└── RecordError         a run on disk cannot be read
"""

from __future__ import annotations


class GradientflowError(Exception):
    """Root of every exception that gradientflow raises on purpose."""


class UsageError(GradientflowError):
    """The command or call was wrong; the message says what, expected, got, and the mend."""


class ScriptError(UsageError):
    """The script to run is missing, unreadable, or does not compile."""


class OutputError(UsageError):
    """The output folder or file cannot be written."""


class FieldError(UsageError):
    """A field, a loss or a starting point is not what it must be; the message says what, expected, got, and the mend."""


class RandomFieldError(FieldError):
    """Two evaluations of a field at one point differ; the message names the cause and the call that mends it."""


class RecordError(GradientflowError):
    """A run on disk cannot be read."""
