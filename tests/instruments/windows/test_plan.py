"""Where windows lie, against a one-dimensional network whose positions say for themselves what they read."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnprobe.instruments.network.tracing import Value
from cnnprobe.instruments.windows.plan import Edge, classes, needs, stretches, touched
from cnnprobe.instruments.windows.spans import Slide

QUICK = settings(max_examples=80, deadline=None, derandomize=True)


@st.composite
def branched(draw):
    """Draw a graph of windows: values in order, each made from one or two earlier ones of the same length."""
    lengths, edges = [draw(st.integers(8, 20))], []
    for number in range(1, draw(st.integers(2, 6))):
        sources = {number - 1}
        twins = [n for n in range(number - 1) if lengths[n] == lengths[number - 1]]
        if twins and draw(st.booleans()):
            sources.add(draw(st.sampled_from(twins)))
        kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 2))
        before, length = draw(st.integers(0, kernel - 1)), lengths[number - 1]
        into = max(1, (length + 2 * before - kernel) // stride + 1)
        for source in sorted(sources):
            less = 0 if kernel < 2 else draw(st.integers(0, 1))  # a branch of smaller reach
            reach = Slide(kernel - less, stride, max(before - less, 0), 1, length, into)
            edges.append((source, number, reach))
        lengths.append(into)
    values = [Value(n - 1, 0, (1, 1, length, length)) for n, length in enumerate(lengths)]
    return values, lengths, [Edge(values[a], values[b], (reach, reach)) for a, b, reach in edges]


def taps(reach, result):
    first = result * reach.stride - reach.before
    return {at for at in range(first, first + reach.kernel) if 0 <= at < reach.length}


def positions_changed(values, edges, pixels):
    """Return by value which positions change with these pixels, one by one."""
    found = {values[0]: set(pixels)}
    for value in values[1:]:
        found[value] = {
            u
            for edge in edges
            if edge.result == value
            for u in range(value.shape[2])
            if taps(edge.reach[0], u) & found[edge.source]
        }
    return found


def positions_needed(values, edges, target):
    """Return by value which positions the target's positions read, one by one."""
    found = {value: set() for value in values} | {values[-1]: set(target)}
    for value in reversed(values):
        for edge in edges:
            if edge.result == value:
                found[edge.source] |= {at for u in found[value] for at in taps(edge.reach[0], u)}
    return found


@st.composite
def planned(draw):
    values, lengths, edges = draw(branched())
    first = draw(st.integers(0, lengths[-1] - 1))
    need = (first, draw(st.integers(first + 1, lengths[-1])))
    patch, stride = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    tops = np.arange(0, lengths[0] - patch + 1, stride)
    needed = needs(edges, {values[-1]: need}, 0, {})
    changed = stretches(edges, 0, needed, {values[0]: (tops, tops + patch)})
    return values, edges, need, patch, tops, needed, changed


@QUICK
@given(planned())
def test_what_is_needed_and_changed_holds_every_position_that_is(case):
    values, edges, need, patch, tops, needed, changed = case
    wanted = positions_needed(values, edges, range(*need))
    for value in values:
        assert wanted[value] <= set(range(*needed.get(value, (0, 0))))
    for place, top in enumerate(tops):
        hit = positions_changed(values, edges, range(top, top + patch))
        for value in values:
            first, stop = (side[place] for side in changed[value]) if value in changed else (0, 0)
            assert hit[value] & wanted[value] <= set(range(first, stop)) <= set(range(*needed.get(value, (0, 0))))


@QUICK
@given(planned())
def test_occluders_that_matter_are_those_the_target_sees(case):
    values, edges, need, patch, tops, _, changed = case
    members = set(touched(changed, [values[-1]]).tolist())
    for place, top in enumerate(tops):
        if positions_changed(values, edges, range(top, top + patch))[values[-1]] & set(range(*need)):
            assert place in members


def test_in_a_chain_nothing_more_is_needed_or_changed():
    """Kernels of 3, then 3 with a stride of 2: position 2 reads 4 to 6, and those pixels 3 to 7."""
    values = [Value(n - 1, 0, (1, 1, side, side)) for n, side in enumerate((12, 12, 6))]
    slides = [Slide(3, 1, 1, 1, 12, 12), Slide(3, 2, 0, 1, 12, 6)]
    edges = [Edge(*values[n : n + 2], (slide, slide)) for n, slide in enumerate(slides)]
    needed = needs(edges, {values[2]: (2, 3)}, 0, {})
    assert needed == {values[2]: (2, 3), values[1]: (4, 7), values[0]: (3, 8)}
    tops = np.arange(0, 11)
    changed = stretches(edges, 0, needed, {values[0]: (tops, tops + 2)})
    assert touched(changed, [values[2]]).tolist() == [2, 3, 4, 5, 6, 7]
    assert [(int(a), int(b)) for a, b in zip(*changed[values[1]])][3:7] == [(4, 6), (4, 7), (4, 7), (5, 7)]


def test_a_value_that_is_read_as_a_whole_is_needed_as_a_whole():
    values = [Value(n - 1, 0, (1, 1, 12, 12)) for n in range(3)]
    reach = Slide(3, 1, 1, 1, 12, 12)
    edges = [Edge(values[0], values[1], (reach, reach)), Edge(values[1], values[2], (reach, reach))]
    needed = needs(edges, {values[2]: (5, 6)}, 0, {values[1]: 12})
    assert needed == {values[2]: (5, 6), values[1]: (0, 12), values[0]: (0, 12)}


@QUICK
@given(planned(), st.sampled_from([0.0, 10.0, 1e12]), st.integers(1, 3))
def test_classes_part_the_occluders_and_their_windows_hold_what_changes(case, overhead, kinds):
    values, _, _, _, tops, needed, changed = case
    members = touched(changed, [values[-1]])
    weights, alignment = dict.fromkeys(changed, 1.0), np.arange(len(tops)) % kinds
    found = classes(changed, needed, members, weights, overhead, alignment)
    assert sorted(n for group in found for n in group.members) == members.tolist()
    for group in found:
        assert len(set(alignment[group.members])) == 1
        for value, windows in group.windows.items():
            first, stop = (side[group.members] for side in changed[value])
            used = stop > first
            low, high = needed[value]
            assert (windows.first[used] <= first[used]).all()
            assert (windows.first[used] + windows.length >= stop[used]).all()
            assert (windows.first >= low).all() and windows.length >= 1
            assert (windows.first + windows.length <= max(high, low + 1)).all()
            assert windows.exact == (stop - first == windows.length).all()
    if overhead == 0:  # a class of its own for every combination of lengths
        for group in found:
            assert all(np.ptp(w.changed[1] - w.changed[0]) == 0 for w in group.windows.values())
    if overhead == 1e12:
        assert len(found) == len(set(alignment[members]))


@QUICK
@given(planned(), st.data())
def test_a_part_of_a_class_is_cut_alike_for_every_value(case, data):
    values, _, _, _, tops, needed, changed = case
    members = touched(changed, [values[-1]])
    for group in classes(changed, needed, members, dict.fromkeys(changed, 1.0), 1e12, tops * 0):
        start = data.draw(st.integers(0, len(group.members)))
        part = group.part(start, start + 2)
        cut = slice(start, start + 2)
        assert np.array_equal(part.members, group.members[cut])
        for value, windows in part.windows.items():
            whole = group.windows[value]
            assert (windows.length, windows.exact) == (whole.length, whole.exact)
            assert np.array_equal(windows.first, whole.first[cut])
            assert all(np.array_equal(a, b[cut]) for a, b in zip(windows.changed, whole.changed))
