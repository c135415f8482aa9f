"""What a figure of hubcache must be, by itself or beside a peer's."""

import dataclasses
import statistics

from .figures import FIGURES

# What noise may add to a count that must be exact.
EXACT = 0.005


@dataclasses.dataclass(frozen=True)
class Goal:
    """A bound on one figure. `value` makes a number of the medians of both, and `met` judges it."""

    figure: str
    peer: str | None
    peer_figure: str
    text: str
    value: object
    met: object
    show: object


def at_least(figure, peer, bound):
    return ratio(figure, peer, figure, f"≥ {bound:g} x", lambda value: value >= bound)


def at_most(figure, peer, bound, of_peer=None):
    return ratio(figure, peer, of_peer or figure, f"≤ {bound:g} x", lambda value: value <= bound)


def ratio(figure, peer, peer_figure, text, met):
    return Goal(figure, peer, peer_figure, text, lambda ours, theirs: ours / theirs, met, times_as_much)


def faster(peer, bound):
    """So many times as fast: the times the other way round."""
    text = f"≥ {bound:g} x as fast"
    value, met = (lambda ours, theirs: theirs / ours), (lambda value: value >= bound)
    return Goal("seconds", peer, "seconds", text, value, met, times_as_much)


def after(figure, peer, bound):
    """At most so many seconds later."""
    show = lambda value: f"{value * 1000:+.1f} ms"
    value, met = (lambda ours, theirs: ours - theirs), (lambda value: value <= bound)
    return Goal(figure, peer, figure, f"≤ {bound * 1000:g} ms later", value, met, show)


def within(figure, bound):
    return alone(figure, f"≤ {FIGURES[figure].show(bound)}", lambda value: value <= bound)


def exactly(figure, bound):
    return alone(figure, f"{FIGURES[figure].show(bound)}", lambda value: abs(value - bound) <= EXACT * bound)


def alone(figure, text, met):
    return Goal(figure, None, figure, text, lambda ours, _: ours, met, FIGURES[figure].show)


def times_as_much(value):
    return f"{value:.2f} x"


def judge(goal, samples):
    """How a goal stands, given the samples of every contender by name; the first is hubcache."""
    verdict = {"figure": goal.figure, "against": goal.peer, "goal": goal.text, "value": None, "met": None}
    ours = next(iter(samples.values()))
    theirs = ours if goal.peer is None else samples.get(goal.peer)
    if not ours or not theirs:
        return verdict
    value = goal.value(median(ours, goal.figure), median(theirs, goal.peer_figure))
    return verdict | {"value": value, "shown": goal.show(value), "met": bool(goal.met(value))}


def median(samples, figure):
    return statistics.median(sample[figure] for sample in samples)
