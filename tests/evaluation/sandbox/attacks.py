"""What code could try against the evaluation: name, code, limits beside the usual ones, what it gets to see.

SECRET, HOME, PORT, ABSTRACT and CHECKOUT are filled in by the test. What is seen is a regular expression of the
last execution's whole text; an attack may be several executions, with `# ---` between.
"""

# ruff: noqa: E501

import re

TIMEOUT = r"Execution timed out after 3\.0 seconds\n"
DIED = r"connection closed\n"
TRIED = """
def tried(function, *arguments):
    try:
        return function(*arguments)
    except Exception as error:
        return type(error).__name__
"""


ATTACKS = {
    # ---- processes ----
    "a fork bomb": ("import os\nwhile True:\n    os.fork()", {}, None),
    "a fork bomb that does not give up": (
        "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
        {},
        f"{TIMEOUT}|{DIED}",
    ),
    "a bomb of threads": (
        "import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=(99,)).start()",
        {},
        None,
    ),
    "killing its parent": ("import os\nos.kill(os.getppid(), 9)\nprint('alive', os.getppid())", {}, None),
    "killing everything": (
        "import os\nos.kill(-1, 9)\nprint('alive')\n# ---\nprint('still')",
        {},
        r"still\n",
    ),
    "every signal to its parent": (
        f"import os{TRIED}\nfor n in range(1, 65):\n    tried(os.kill, 1, n)\n# ---\nprint('still')",
        {},
        r"still\n",
    ),
    "a daemon that outlives the execution": (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        while True:\n"
        "            open('/tmp/beats', 'a').write('.')\n            time.sleep(0.01)\n    os._exit(0)\n"
        "time.sleep(0.3)\n# ---\nprint('the beats:', len(open('/tmp/beats').read()) < 80)",
        {},
        r"the beats: True\n",
    ),
    "waiting for ever": ("import time\ntime.sleep(10**9)", {}, TIMEOUT),
    "waiting for ever, deaf to signals": (
        "import signal\nfor n in range(1, 65):\n    try:\n        signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError):\n        pass\nwhile True:\n    pass",
        {},
        TIMEOUT,
    ),
    "an exception that swallows all": (
        "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass",
        {},
        TIMEOUT,
    ),
    "stopping itself": ("import os\nos.kill(os.getpid(), 19)", {}, TIMEOUT),
    "leaving": ("import os\nos._exit(0)", {}, DIED),
    "leaving politely": ("x = 5\nexit()\n# ---\nx", {}, r"5\n"),
    "becoming another program": (
        "import os\nos.execv('/bin/sleep', ['sleep', '99'])",
        {},
        f"{TIMEOUT}|{DIED}",
    ),
    # ---- memory and disk ----
    "a memory bomb": ("x = bytearray(10**11)", {}, r"Traceback[^$]*MemoryError\n"),
    "a memory bomb in many processes": (
        "import os, time\nfor _ in range(12):\n    if os.fork() == 0:\n        x = b'x' * 200_000_000\n"
        "        time.sleep(99)\ntime.sleep(99)",
        {"megabytes": 1_000, "seconds": 20.0},
        DIED,
    ),
    "a list without end": (
        "x = []\nwhile True:\n    x.append('x' * 10**6 + str(len(x)))",
        {"megabytes": 1_000},
        None,
    ),
    "10 GB of output": (
        "text = 'x' * 10**6\nfor _ in range(10_000):\n    print(text)",
        {"seconds": 60.0},
        r"x{1000}<output cut>",
    ),
    "output without end": ("while True:\n    print('x' * 10**6)", {}, TIMEOUT),
    "10 GB past sys.stdout": (
        "import os\nfor _ in range(10_000):\n    os.write(1, b'x' * 10**6)\n    os.write(2, b'x')",
        {"seconds": 60.0},
        "",
    ),
    "a huge value": ("'x' * 10**9", {}, None),
    "a huge number": ("10**(10**9)", {}, None),
    "a huge list": ("list(range(10**7))", {"seconds": 60.0}, r"\[0,\n[^$]*<output cut>"),
    "filling /tmp": (
        "import os\nfor n in range(10**6):\n    with open(f'/tmp/{n}', 'wb') as file:\n"
        "        file.write(bytes(10**7))",
        {"file_megabytes": 100},
        r"Traceback[^$]*No space left on device\n",
    ),
    "filling shared memory": (
        "with open('/dev/shm/x', 'wb') as file:\n    while True:\n        file.write(bytes(10**7))",
        {"file_megabytes": 100},
        r"Traceback[^$]*(File too large|No space left on device)\n",
    ),
    "filling the folders beside": (
        f"{TRIED}\nprint([tried(open, name, 'w') for name in ('/x', '/dev/x', '/run/x', '/usr/x', '/proc/x')])",
        {},
        r"\[('(OSError|PermissionError|FileNotFoundError)'(, )?){5}\]\n",
    ),
    # ---- the machine ----
    "writing into the checkout": (
        # Where the environment lies in the checkout, there are empty folders on the way to it; in the sandbox's
        # own /tmp they may even be written, and nothing of that is seen outside (test_attacks.py looks).
        f"import os{TRIED}\nprint(os.path.exists('CHECKOUT/Makefile'), tried(open, 'CHECKOUT/planted', 'w'))",
        {},
        r"False (FileNotFoundError|PermissionError|OSError|<_io\.TextIOWrapper .*>)\n",
    ),
    "writing into the packages": (
        "import os, sys\nprint([os.access(path, os.W_OK) for path in sys.path if path and os.path.exists(path)])",
        {},
        r"\[(False(, )?)+\]\n",
    ),
    "reading the home, .ssh and .env": (
        f"import os{TRIED}\nprint([tried(open, name) for name in ('HOME/.ssh/id', 'HOME/.env', 'CHECKOUT/.env',"
        " os.path.expanduser('~/.ssh/id'), '/etc/passwd', '/etc/shadow')])",
        {},
        r"\[('(FileNotFoundError|PermissionError)'(, )?){6}\]\n",
    ),
    "a link and .. out of it": (
        f"import os{TRIED}\nos.symlink('HOME/.env', '/tmp/link')\nos.symlink('/proc/1/root', '/tmp/root')\n"
        "print(tried(open, '/tmp/link'), tried(open, '/tmp/../../../..' + 'HOME/.env'),"
        " tried(os.listdir, '/tmp/root'), tried(open, '/proc/self/root/HOME/.env'))",
        {},
        r"((FileNotFoundError|PermissionError)\s){4}",
    ),
    "secrets in an environment": (
        f"import glob, os{TRIED}\nread = lambda name: open(name).read()\n"
        "found = [str(tried(read, name)) for name in glob.glob('/proc/*/environ')] + [str(os.environ)]\n"
        "print(len(found) > 2, 'SECRET'[::-1] in ''.join(found))",
        {},
        r"True False\n",
    ),
    "the benchmark's answers": (
        "import glob, sys\nprint([n for p in sys.path for n in glob.glob(p + '/nemo_skills/*')])",
        {},
        r"\[\]\n",
    ),
    "a socket": (
        f"import socket{TRIED}\nprint(tried(socket.create_connection, ('127.0.0.1', PORT), 1),"
        " tried(socket.create_connection, ('192.0.2.1', 80), 1),"
        " tried(socket.socket(socket.AF_UNIX).connect, '\\0ABSTRACT'))",
        {},
        r"(ConnectionRefusedError|OSError) OSError ConnectionRefusedError\n",
    ),
    "a trace of its parent": (
        f"import ctypes, os{TRIED}\nlibc = ctypes.CDLL(None)\n"
        "print(libc.ptrace(16, 1, 0, 0), tried(open, '/proc/1/mem', 'rb'), tried(os.readlink, '/proc/1/fd/1'),"
        " tried(open, '/proc/1/fd/1', 'w'))",
        {},
        r"-1 PermissionError PermissionError PermissionError\n",
    ),
    "devices": (
        f"import os{TRIED}\nprint([n for n in os.listdir('/dev') if n[:2] in ('sd', 'vd', 'nv', 'me', 'km', 'lo')],"
        " tried(os.mknod, '/tmp/disk', 0o60600, os.makedev(8, 0)))",
        {},
        r"\[\] PermissionError\n",
    ),
    "becoming root": (
        f"import os{TRIED}\nprint([tried(f, 0) for f in (os.setuid, os.setgid)], tried(os.chroot, '/tmp'))",
        {},
        r"\[('(PermissionError|OSError)'(, )?){2}\] PermissionError\n",
    ),
    "namespaces of its own, and mounts": (
        "import ctypes, os\nlibc = ctypes.CDLL(None)\nlibc.unshare(0x10020000)\nlibc.mount(b'x', b'/usr', b'tmpfs', 0, 0)\n"
        "libc.umount2(b'/proc', 2)\nprint(os.path.exists('HOME/.env'), os.path.exists('CHECKOUT/omr'))",
        {},
        r"False False\n",
    ),
    "settings of the kernel": (
        f"{TRIED}\nprint([tried(open, '/proc/' + name, 'w') for name in ('sys/kernel/hostname', 'sysrq-trigger')])",
        {},
        r"\[('(OSError|PermissionError|FileNotFoundError)'(, )?){2}\]\n",
    ),
    # ---- the process that serves it ----
    "rubbish for the supervisor": (
        "import os\nfor fd in range(3, 64):\n    try:\n        os.write(fd, b'rubbish\\n')\n    except OSError:\n"
        "        pass",
        {},
        DIED,
    ),
    "rubbish without end for the supervisor": (
        "import os\nwhile True:\n    for fd in range(3, 64):\n        try:\n            os.write(fd, b'x' * 10**6)\n"
        "        except OSError:\n            pass",
        {},
        DIED,
    ),
    "a false reply": (
        "import os, json\nreply = json.dumps({'status': 'completed', 'text': 'x' * 10**5}).encode() + b'\\n'\n"
        "for fd in range(3, 64):\n    try:\n        os.write(fd, reply)\n    except OSError:\n        pass",
        {},
        f"x{{1000,2100}}|{DIED}",
    ),
    "closing every file": ("import os\nos.closerange(0, 256)", {}, DIED),
    "no stdout": ("import sys\nsys.stdout.close()", {}, DIED),
    "another stdout": ("import sys\nsys.stdout = None\nprint('x')\n# ---\n1", {}, r"1\n"),
    "its own functions replaced": (
        "import os, json\nos.getpid = lambda: 1\nos._exit = print\njson.dumps = None\n# ---\n1",
        {},
        None,
    ),
    "a bottomless recursion": (
        "import sys\nsys.setrecursionlimit(10**9)\nf = lambda n: f([n])\nf(0)",
        {},
        f"{DIED}|{TIMEOUT}|Traceback[^$]*",
    ),
    "a segmentation fault": ("import ctypes\nctypes.string_at(0)", {}, DIED),
    "a copy of itself that answers too": ("import os\npid = os.fork()\nprint('one')\n# ---\n2", {}, r"2\n"),
}


def seen(pattern, text):
    """Whether the text is what an attack gets to see."""
    return pattern is None or re.fullmatch(pattern, text)
