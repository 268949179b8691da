"""``python -m sslnb`` is ``sslnb``; so is ``torchrun … -m sslnb``."""

import sys

from sslnb.cli import main

sys.exit(main())
