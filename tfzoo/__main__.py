"""`python -m tfzoo`, for where the command is on no path."""

from tfzoo.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
