"""The live page: a net in the browser, where every number can be pointed at. Nothing here computes."""

from hapgop.studio.look.app import application, watching
from hapgop.studio.look.serving import Live, serve, show
from hapgop.studio.look.single import single_file
from hapgop.studio.look.subject import Sample, Subject
from hapgop.studio.look.watched import Watched

__all__ = [
    "Live",
    "Sample",
    "Subject",
    "Watched",
    "application",
    "serve",
    "show",
    "single_file",
    "watching",
]
