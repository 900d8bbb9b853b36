"""Whether an answer is right: its last box, compared by math-verify."""


def boxed(text: str) -> str | None:
    r"""What stands in the last \boxed{…} of an answer; None without one whose braces close."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth, begin = 0, start + len("\\boxed{")
    for at in range(begin - 1, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[begin:at]
    return None


def is_right(answer: str, expected: str) -> bool:
    """Whether the boxed answer is the expected one, as text or by its value."""
    from math_verify import parse, verify

    given = boxed(answer)
    if given is None:
        return False
    if given.strip() == expected.strip():
        return True
    return bool(verify(parse(f"\\boxed{{{expected}}}"), parse(f"\\boxed{{{given}}}")))
