"""What rewards that ask a judge about a response have in common."""

from typing import TYPE_CHECKING

from ..failures import Unscorable
from ..media import Media
from ..types import Sample
from .answers import Pictures

if TYPE_CHECKING:
    from .remote import ServedVLM
    from .vlms import VLM

YES_NO = ("yes", "no")


def shown_to(sample: Sample) -> tuple[Media, ...]:
    """What policy and judge look at: the image or clip, then the inputs. Adapters put a prompt's first
    picture into the image and the others into the inputs."""
    return (*(() if sample.shown is None else (sample.shown,)), *sample.inputs)


async def probability_of_yes(
    vlm: "VLM | ServedVLM", media: Pictures, question: str, min_mass: float
) -> float:
    """How probable the model finds "yes" against "no", 0 to 1.

    Raises:
        Unscorable: "unparsable" when the two have less than `min_mass` of the probability together.
    """
    read = await vlm.read(media, question, YES_NO)
    if read.mass < min_mass:
        raise Unscorable(
            f"yes and no have {read.mass:.3f} of the judge's probability, less than {min_mass}", "unparsable"
        )
    return read.probs["yes"]
