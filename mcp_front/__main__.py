"""`python -m mcp_front`: the same as the command `imagegen-mcp`."""

from mcp_front.cli import main

if __name__ == "__main__":
    main()
