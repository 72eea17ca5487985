"""``python -m meshd`` is the meshd command."""

import sys

from meshd.cli.main import main

sys.exit(main())
