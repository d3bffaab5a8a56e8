"""`python -m gradientflow` is the same command as `gradientflow`."""

import os
import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        # As the installed command has it: a typer.py in the working directory is the script's, not ours.
        sys.path[0] = os.path.dirname(sys.executable)
    from gradientflow.cli import main

    main()
