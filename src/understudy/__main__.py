"""``python -m understudy``: the command line."""

import sys

from understudy.cli.main import main

sys.exit(main())
