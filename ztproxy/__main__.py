"""`python -m ztproxy`."""

from ztproxy.cli import main

if __name__ == "__main__":
    main()
