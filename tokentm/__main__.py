"""python -m tokentm doctor: what is installed here, what is missing, and whether it works."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tokentm.doctor import examine


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tokentm", description=__doc__)
    parser.add_argument("command", choices=("doctor",), help="examine this installation, one line for each thing")
    parser.parse_args(arguments)
    findings = examine()
    for finding in findings:
        print(finding)
    return 0 if all(finding.fine or finding.optional for finding in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
