# SPDX-License-Identifier: Apache-2.0
"""`python -m p2pd`."""

from p2pd.cli import main

if __name__ == "__main__":
    main()
