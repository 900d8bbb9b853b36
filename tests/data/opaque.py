"""A proof that a chat template only puts texts between its own: one that refuses to be looked at."""

from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Looked(Exception):
    """The template looked into a text."""


def refuse(*_):
    raise Looked


class Opaque(str):
    """A text that can be put between others and nothing else; so can what comes of it."""

    __slots__ = ()

    def __str__(self):
        return self

    def __add__(self, other):
        return Opaque(str.__add__(self, other))

    def __radd__(self, other):
        return Opaque(str.__add__(other, self))

    def __getattribute__(self, name):
        if name.startswith("__"):
            return str.__getattribute__(self, name)
        raise Looked(name)

    __contains__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = refuse
    __len__ = __iter__ = __getitem__ = __hash__ = __bool__ = __mod__ = __mul__ = refuse


def only_concatenates(template, special_tokens=None):
    """Whether a chat template only puts the messages' texts between its own."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    # A filter may read a text where Opaque cannot notice it.
    environment.filters = dict.fromkeys(environment.filters, refuse)
    known = {**(special_tokens or {}), "tools": None, "documents": None, "add_generation_prompt": False}
    system, user = {"role": "system", "content": ""}, {"role": "user", "content": Opaque("x")}
    answer = [{"role": "user", "content": ""}, {"role": "assistant", "content": Opaque("x")}]
    try:
        render = environment.from_string(template).render
        render(messages=[system, user], **known | {"add_generation_prompt": True})
        render(messages=answer, **known)
    except Exception:
        return False
    return True
