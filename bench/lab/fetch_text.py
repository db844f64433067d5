# SPDX-License-Identifier: Apache-2.0
"""Prints what an address answers: `python -m bench.lab.fetch_text URL`, to look at a daemon from within its host."""

import sys
import urllib.request

SECONDS = 10.0


def main() -> None:
    """Print the body of the answer. Raises OSError."""
    url = sys.argv[1]
    if not url.startswith("http://"):
        raise SystemExit(f"{url}: must start with http://")
    with urllib.request.urlopen(url, timeout=SECONDS) as answer:  # noqa: S310 (checked above)
        sys.stdout.buffer.write(answer.read())


if __name__ == "__main__":
    main()
