"""`python -m cnnprobe` is the command `cnnprobe`."""

import sys

from cnnprobe.cli import main

sys.exit(main())
