"""`python -m cnnprobe` is the command `cnnprobe`."""

import sys

from cnnprobe.cli.main import main

sys.exit(main())
