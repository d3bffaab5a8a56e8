"""Small training scripts, one for each thing that a watcher could disturb. Each keeps what it computed in `record`."""

from __future__ import annotations

from tests.depth.watch.training import graphs, networks, surroundings

SCRIPTS = networks.SCRIPTS | graphs.SCRIPTS | surroundings.SCRIPTS
