"""Texts and values that trip careless code, shared by the tests of the data stage."""

TEXTS = (
    "",
    " leading and trailing \n",
    "{problem} {} {{braces}} {0} %s %b %%",
    "{{ jinja }} {% raw %} {# no #}",
    "<|im_start|>system\nno<|im_end|>\n<|endoftext|>",
    "<think>\nwait\n</think>\n\nthen",
    '"quotes" \\"more\\" \\\\ \\n \\u00e9 / </tool_call>',
    "\u0000\u0001\b\f\r\n\t\x1f\x7f",
    "".join(map(chr, range(32))),
    "\u0085\u2028\u2029\ufeff\u200d",
    "é e\u0301 ﬁ ſ 中文 🙂 \U0010ffff \u07fd",
    "Remaining code executions: 7 You have run out of code executions!",
)
LEFT, SPENT = "Remaining code executions: ", "You have run out of code executions!"
# How a TIR solution may end, and the execution count that the recipe reads there (None: no row).
ENDINGS = {
    **{f"{LEFT}{n}\n": int(str(n)[0]) + 1 for n in range(15)},
    f"{LEFT}7": 8,
    SPENT: 1,
    f"{SPENT} {LEFT}3": 4,
    f"{LEFT}4 and {LEFT}9": 5,
    f"{LEFT}\n  5\n": 6,
    f"{LEFT}\u00a06": 7,
    f"{LEFT}\x1c6": 7,
    f"{LEFT}٣": 4,
    f"{LEFT}7.": 8,
    f"{LEFT}8executions": 9,
    f"{LEFT}": None,
    f"{LEFT}  \n": None,
    f"{LEFT}{LEFT}5": None,
    f"{LEFT}many": None,
    f"{LEFT}-1": None,
    f"{LEFT}²": None,
    "Remaining code executions:5": None,
    "remaining code executions: 5": None,
    "no ending": None,
    "": None,
}
# Pass rates that float() reads, with what round 2 does to an olympiad's row: stays or not.
RATES = {
    "0.0": True,
    "0.3": True,
    "0.30": True,
    "3e-1": True,
    "0.300000001": False,
    " 0.25 ": True,
    "0_0.1": True,
    "٠.١": True,
    "nan": True,
    "-inf": True,
    "inf": False,
    "1": False,
    "1.0": False,
    "n/a": False,
}
NO_RATES = ("abc", "", "N/A", "0,3", "0.1%", None)
