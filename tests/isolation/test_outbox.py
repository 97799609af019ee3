"""Outbox: the order of requests, and what a death costs each; checked without processes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmreward import Unscorable
from mmreward.isolation.child import IN_FLIGHT, Outbox, Request
from mmreward.isolation.protocol import Message


def requests(n):
    return [Request(lambda: Message({}, [])) for _ in range(n)]


def filled(n):
    outbox, made = Outbox(), requests(n)
    for request in made:
        outbox.add(request)
    return outbox, made


def depart(outbox):
    sent = []
    while (request := outbox.next()) is not None:
        sent.append(request)
    return sent


def test_requests_go_in_order_and_no_more_than_fit():
    outbox, made = filled(IN_FLIGHT + 2)
    assert depart(outbox) == made[:IN_FLIGHT]
    assert outbox.pop(made[3].id) is made[3] and outbox.pop(made[3].id) is None
    assert depart(outbox) == [made[IN_FLIGHT]]


@pytest.mark.parametrize("number", [None, "1", 99, 1.5, [1]])
def test_a_reply_to_nothing_is_none(number):
    outbox, _ = filled(1)
    depart(outbox)
    assert outbox.pop(number) is None


def test_after_a_death_the_suspects_go_one_at_a_time_and_before_the_others():
    outbox, made = filled(3)
    depart(outbox)
    late = Request(lambda: Message({}, []))
    outbox.replay("died", blame=True)
    outbox.add(late)
    for request in made:
        assert depart(outbox) == [request], "alone"
        outbox.pop(request.id)
    assert depart(outbox) == [late]


def test_those_who_are_not_blamed_go_together():
    outbox, made = filled(3)
    depart(outbox)
    outbox.replay("ended", blame=False)
    assert depart(outbox) == made


def test_what_has_been_cancelled_is_passed_over():
    outbox, made = filled(3)
    made[0].reply.cancel()
    made[1].reply.cancel()
    assert outbox.waiting() and depart(outbox) == [made[2]] and not outbox.waiting()
    made[2].reply.cancel()
    made[2].settle({})
    outbox.replay("died", blame=True)
    assert depart(outbox) == []


def test_failing_answers_everything():
    outbox, made = filled(4)
    depart(outbox)
    outbox.replay("died", blame=True)
    outbox.next()
    outbox.add(more := Request(lambda: Message({}, [])))
    outbox.fail("given up")
    for request in (*made, more):
        with pytest.raises(Unscorable, match="given up"):
            request.reply.result(0)
    assert not outbox.waiting() and outbox.next() is None


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 10))
def test_only_what_kills_fails_whatever_the_order(deadly, answered_before_a_death):
    outbox, made = filled(len(deadly))
    poison = {id(request) for request, kills in zip(made, deadly, strict=True) if kills}
    deaths, flight = 0, []
    while flight := [request for request in flight if not request.reply.done()] + depart(outbox):
        good = [request for request in flight if id(request) not in poison]
        for request in good[: answered_before_a_death if len(good) < len(flight) else None]:
            outbox.pop(request.id).settle({"scores": []})
        if len(good) < len(flight):
            outbox.replay("died", blame=True)
            flight, deaths = [], deaths + 1
    for request in made:
        assert request.reply.done()
        assert (request.reply.exception() is not None) == (id(request) in poison)
    assert deaths <= 1 + len(poison)
