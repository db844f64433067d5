# SPDX-License-Identifier: Apache-2.0
"""`python -m seeds`."""

from seeds.cli import main

if __name__ == "__main__":
    main()
