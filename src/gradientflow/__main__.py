"""`python -m gradientflow` is the same command as `gradientflow`."""

from gradientflow.cli import main

if __name__ == "__main__":
    main()
