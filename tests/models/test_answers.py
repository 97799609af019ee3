"""Label probabilities that are believed only where the labels have mass."""

import asyncio

import pytest

from mmreward import Unscorable
from mmreward.models.vlms.answers import Read, check_mass, probability_of_yes

READ = Read({"yes": 0.75, "no": 0.25}, 0.4)


class Reader:
    async def read(self, media, question, labels, *, system=""):
        return READ


def test_a_read_with_too_little_mass_is_unparsable_and_keeps_its_parts():
    check_mass(READ, 0.4)
    with pytest.raises(Unscorable, match=r"the labels have 0\.400 .* less than 0\.5") as failure:
        check_mass(READ, 0.5, labels="the labels", parts={"mass": READ.mass})
    assert failure.value.status == "unparsable" and failure.value.parts == {"mass": 0.4}


def test_the_probability_of_yes_needs_mass():
    assert asyncio.run(probability_of_yes(Reader(), None, "Is it?", 0.3)) == 0.75
    with pytest.raises(Unscorable, match=r"yes and no have 0\.400"):
        asyncio.run(probability_of_yes(Reader(), None, "Is it?", 0.5))
