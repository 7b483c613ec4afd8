"""The verdict on randomised networks; the check itself is tested through gbp."""

import numpy as np

from cnnprobe.methods.gbp.sanity import verdict


def test_the_verdict_names_every_rule_with_its_means():
    alike = np.array([[[[0.5, 0.7], [np.nan, 0.3]], [[1.0, 1.0], [0.0, np.nan]]], [[[np.nan] * 2] * 2] * 2])
    said = verdict(["guided", "gradient"], alike)
    assert "guided 0.50 and 0.67; gradient: only empty maps." in said
    assert "not what was learned" in said
