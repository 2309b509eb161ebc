"""`python -m serving.cli`: the command line without its script."""

import sys

from serving.cli import main

sys.exit(main())
